package poddir

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/spelling"
)

// Find resolves a POD operand: a UUID or a unique start of one, @FILE (a file that holds one),
// self, or a pod's name; white space around it is ignored. A name means the pod of that name that
// has not exited, else the newest one, and takes precedence over the start of a UUID. self is the
// UUID that Self gave, "" outside of a service. Find returns ErrNotFound if there is no such pod,
// and an error that lists the pods if there are several; a pod found may be gone when the caller
// looks at it. One of another Format is refused.
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

// UUIDOf is the UUID that an operand says without a look at the pods: a whole one, the one in
// @FILE, or self's. It is "" for others: a name, the start of a UUID.
func UUIDOf(operand, self string) (string, error) {
	operand = strings.TrimSpace(operand)
	file, isFile := strings.CutPrefix(operand, "@")
	switch {
	case operand == "self" && self == "":
		return "",
			errors.New(`pod "self": self is the pod of a systemd unit, and works only in a line of one`)
	case operand == "self":
		return self, nil
	case isFile:
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		uuid := strings.ToLower(strings.TrimSpace(string(data)))
		if !ValidUUID(uuid) {
			return "", fmt.Errorf("%s: does not hold a pod's UUID", file)
		}
		return uuid, nil
	case ValidUUID(strings.ToLower(operand)):
		return strings.ToLower(operand), nil
	}
	return "", nil
}

func (p Pods) find(operand, self string) (*Pod, error) {
	uuid, err := UUIDOf(operand, self)
	if err != nil {
		return nil, err
	}
	if uuid != "" {
		return p.exact(uuid)
	}
	if operand == "" {
		return nil, fmt.Errorf("no matches found for %q: %w", operand, ErrNotFound)
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
		if near := spelling.Near(operand, names(all)); near != "" {
			return nil, fmt.Errorf("no matches found for %q: %w; did you mean %s?", operand, ErrNotFound, near)
		}
		return nil, fmt.Errorf("no matches found for %q: %w", operand, ErrNotFound)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("pod %q: ambiguous uuid, %d matches: %s; give more of it", operand, len(found), list(found))
}

// names are those that pods were given.
func names(pods []*Pod) (given []string) {
	for _, p := range pods {
		if name, err := p.ReadFile(NameFile); err == nil {
			given = append(given, strings.TrimSuffix(string(name), "\n"))
		}
	}
	return given
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
