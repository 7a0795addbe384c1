package poddir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
)

// Claim is the name that a new pod is to have.
type Claim struct {
	Name  string
	Unit  string // the service that makes the pod, "" if none does
	Start string // the ID of this start of the service (see Invocation), "" if it is not known
	// told of each pod that an earlier start of the service left prepared, and which has lost the
	// name
	Taken func(from *Pod)
	// told how many pods that have exited earlier starts of the service have left, if there are
	// some
	Left func(pods int)
}

// namesTimeout outlasts other programs that give names away, each of which looks at all pods: a
// hundred of them on a slow machine.
const namesTimeout = 5 * time.Minute

// reserve locks tmp for the time in which a new pod is made there and gets its name in pods: for
// others only if the pod is to have a name of its own, so that of two that want the same name the
// second sees the first. Sweep stays out in any case.
func (p Pods) reserve(c Claim) (*os.File, error) {
	if c.Name == "" {
		return durable.Share(p.tmp())
	}
	return durable.Lock(p.tmp(), namesTimeout)
}

// sameName reports whether two names are one: that of a unit may be written with or without
// ".service".
func sameName(a, b string) bool {
	return strings.TrimSuffix(a, ".service") == strings.TrimSuffix(b, ".service")
}

// claim writes the name into dir, the directory of a new pod, if no other pod has it. Who holds the
// lock of reserve calls it.
func (p Pods) claim(dir string, c Claim) error {
	if c.Name == "" {
		return nil
	}
	if err := p.free(c); err != nil {
		return err
	}
	if c.Unit != "" && c.Start != "" {
		if err := os.WriteFile(filepath.Join(dir, UnitFile), []byte(c.Unit+" "+c.Start+"\n"), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, NameFile), []byte(c.Name+"\n"), 0o640)
}

// free returns an error if a pod has the name, and takes it from one that an earlier start of the
// service has left.
func (p Pods) free(c Claim) error {
	all, err := p.All()
	if err != nil {
		return err
	}
	left := 0
	for _, other := range all {
		name := other.Name()
		if name == "" || !sameName(name, c.Name) {
			continue
		}
		state, err := other.State()
		if err == nil && state == Exited && other.leftBy(c) {
			left++
		}
		if errors.Is(err, ErrNotFound) || err == nil && !other.ownsName(state) {
			continue
		}
		if err != nil {
			return err
		}
		if state == Prepared && other.leftBy(c) {
			if err := other.loseName(); err != nil {
				return err
			}
			c.Taken(other)
			continue
		}
		return taken(c.Name, other, state)
	}
	if left > 0 && c.Left != nil {
		c.Left(left)
	}
	return nil
}

func taken(name string, by *Pod, state State) error {
	advice := ""
	switch state {
	case Prepared:
		advice = ", or remove that one: rkt rm " + by.UUID
	case Running:
		advice = ", or stop that one: rkt stop " + by.UUID
	}
	return fmt.Errorf("pod name %q: belongs to pod %s, which is %s; give the new pod another one with --pod-name%s",
		name, by.UUID, state, advice)
}

// ownsName reports whether a pod in that state has its name for itself: any pod that has not
// exited.
func (p *Pod) ownsName(state State) bool {
	return state == Prepared || state.Lives()
}

// leftBy reports whether an earlier start of the service made the pod. No line of the service calls
// it "self" any more.
func (p *Pod) leftBy(c Claim) bool {
	text, err := p.ReadFile(UnitFile)
	unit, start, _ := strings.Cut(strings.TrimSuffix(string(text), "\n"), " ")
	return err == nil && c.Unit != "" && c.Start != "" && unit == c.Unit && start != c.Start
}

// loseName takes the name of a prepared pod, unless the pod is started meanwhile.
func (p *Pod) loseName() error {
	lock, err := p.Lock()
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if state := p.StateHeld(); state != Prepared {
		return fmt.Errorf("pod %s: has been started meanwhile, and has the name %q", p.UUID, p.Name())
	}
	return os.Remove(p.Path(NameFile))
}

// named finds the pod of a name: the one that has not exited, else the newest. A unit's name may be
// given without ".service".
func named(all []*Pod, name string) (*Pod, error) {
	var owners []string
	var owner, newest *Pod
	for _, pod := range all {
		if n := pod.Name(); n != name && n != name+".service" {
			continue
		}
		state, err := pod.State()
		if err != nil {
			continue
		}
		if pod.ownsName(state) {
			owner = pod
			owners = append(owners, fmt.Sprintf("%s (%s)", pod.UUID, state))
		}
		if newest == nil || pod.Time(ManifestFile).After(newest.Time(ManifestFile)) {
			newest = pod
		}
	}
	if len(owners) > 1 {
		return nil, fmt.Errorf("pod %q: is the name of %d pods: %s; give a UUID", name, len(owners),
			strings.Join(owners, ", "))
	}
	if owner != nil {
		return owner, nil
	}
	return newest, nil
}
