// Package running finds the processes of a running pod, and stops it.
package running

import (
	"fmt"
	"time"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// Pod is a pod that may run, and its flavor.
type Pod struct {
	*poddir.Pod
	Flavor stage1.Flavor
}

// Of is a pod with its flavor.
func Of(p *poddir.Pod, flavors stage1.Flavors) (Pod, error) {
	f, err := flavors.Of(p)
	return Pod{p, f}, err
}

// Leader is the pod's PID 1 as the host numbers it, by the process that rkt-run-prepared has
// become. That this has the pod's lock tells that it is still that process and not another of its
// number.
func (p Pod) Leader() (int, error) {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		state, err := p.State()
		if err != nil {
			return 0, err
		}
		if state != poddir.Running {
			return 0, fmt.Errorf("pod %q isn't currently running (its state is: %s)", p.UUID, state)
		}
		supervisor, err := p.Supervisor()
		if err != nil {
			return 0, err
		}
		held, err := p.HeldBy(supervisor)
		if err != nil {
			return 0, fmt.Errorf("pod %s: %w", p.UUID, err)
		}
		if !held { // another program has the lock
			return 0, fmt.Errorf("pod %s: is not running: its first process has ended", p.UUID)
		}
		if pid := p.Flavor.Init(supervisor); pid != 0 {
			return pid, nil
		}
		if time.Now().After(end) {
			return 0, fmt.Errorf("pod %s: is still starting", p.UUID)
		}
	}
}
