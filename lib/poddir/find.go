package poddir

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Find resolves a POD operand: a UUID or a unique start of one, @FILE (a file that holds one),
// self, or a pod's name; white space around it is ignored. A name means the pod of that name that has not exited, else the newest
// one, and takes precedence over the start of a UUID. self is the UUID that Self gave, "" outside
// of a service. Find returns ErrNotFound if there is no such pod, and an error that lists the pods
// if there are several; a pod found may be gone when the caller looks at it. One of another Format
// is refused.
func (p Pods) Find(operand, self string) (*Pod, error) {
	pod, err := p.find(strings.TrimSpace(operand), self)
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
		return nil, fmt.Errorf("no matches found for %q: %w", operand, ErrNotFound)
	}
	if ValidUUID(strings.ToLower(operand)) {
		return p.exact(strings.ToLower(operand))
	}
	all, err := p.All()
	if err != nil {
		return nil, err
	}
	if pod, err := named(all, operand); pod != nil || err != nil {
		return pod, err
	}
	var found []*Pod
	for _, pod := range all {
		if strings.HasPrefix(pod.UUID, strings.ToLower(operand)) {
			found = append(found, pod)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("no matches found for %q: %w", operand, ErrNotFound)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("pod %q: ambiguous uuid, %d matches: %s; give more of it", operand, len(found), list(found))
}

// list has the UUIDs of the first few pods.
func list(pods []*Pod) string {
	const most = 8
	var uuids []string
	for _, p := range pods[:min(len(pods), most)] {
		uuids = append(uuids, p.UUID)
	}
	if len(pods) > most {
		uuids = append(uuids, "...")
	}
	return strings.Join(uuids, ", ")
}

// Gone reports whether there is no such pod.
func (p Pods) Gone(uuid string) bool {
	_, err := p.Find(uuid, "")
	return errors.Is(err, ErrNotFound)
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
			return nil, fmt.Errorf("no matches found for %q: %w", uuid, ErrNotFound)
		}
		return nil, fmt.Errorf("pod %s: %w", uuid, err)
	}
	return pod, nil
}
