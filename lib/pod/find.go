package pod

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Find resolves a POD operand: a UUID or a unique start of one, @FILE (a file that holds one), self, or a pod's name. A name
// means the running pod of that name, else its newest. self is the UUID that Self gave, "" outside of a service. It is
// ErrNotFound when there is no such pod; a pod found may be gone when the caller looks at it. One of another Format is refused.
func (p Pods) Find(operand, self string) (*Pod, error) {
	pod, err := p.find(operand, self)
	if err != nil {
		return nil, err
	}
	r, err := pod.Open()
	if err != nil {
		return nil, err
	}
	return pod, r.Close()
}

func (p Pods) find(operand, self string) (*Pod, error) {
	if operand == "self" {
		if self == "" {
			return nil, errors.New(`pod "self": only a process that systemd itself started has one ($INVOCATION_ID, $SYSTEMD_EXEC_PID)`)
		}
		return p.exact(self)
	}
	if file, ok := strings.CutPrefix(operand, "@"); ok {
		return p.FromFile(file)
	}
	if operand == "" {
		return nil, fmt.Errorf("pod %q: %w", operand, ErrNotFound)
	}
	if ValidUUID(strings.ToLower(operand)) {
		return p.exact(strings.ToLower(operand))
	}
	all, err := p.All()
	if err != nil {
		return nil, err
	}
	if pod := named(all, operand); pod != nil {
		return pod, nil
	}
	var found []*Pod
	for _, pod := range all {
		if strings.HasPrefix(pod.UUID, strings.ToLower(operand)) {
			found = append(found, pod)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("pod %q: %w", operand, ErrNotFound)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("pod %q: %d pods' UUIDs start so; give more of it", operand, len(found))
}

// FromFile resolves the UUID that a file holds, as --uuid-file-save writes it.
func (p Pods) FromFile(file string) (*Pod, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	uuid := strings.ToLower(strings.TrimSpace(string(data)))
	if !ValidUUID(uuid) {
		return nil, fmt.Errorf("%s: does not hold a pod's UUID", file)
	}
	return p.exact(uuid)
}

func (p Pods) exact(uuid string) (*Pod, error) {
	pod := &Pod{uuid, p}
	if _, err := os.Lstat(pod.Dir()); err != nil {
		if os.IsNotExist(err) {
			err = ErrNotFound
		}
		return nil, fmt.Errorf("pod %s: %w", uuid, err)
	}
	return pod, nil
}

// named picks the running pod of a name, else the newest. A unit's name may be given with or without ".service".
func named(all []*Pod, name string) *Pod {
	var best *Pod
	var running bool
	for _, pod := range all {
		if n := pod.Name(); n != name && n != name+".service" {
			continue
		}
		state, err := pod.State()
		if err != nil {
			continue
		}
		runs := state == Running
		newer := best == nil || pod.Time(ManifestFile).After(best.Time(ManifestFile))
		if best == nil || runs && !running || runs == running && newer {
			best, running = pod, runs
		}
	}
	return best
}
