package running

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
)

// Groups are cgroups of a running pod, in the hierarchy of version 2.
type Groups struct {
	Pod    string // the directory of the one that all processes of the pod are in, or below
	leader string // and of that of the pod's systemd
}

// GroupsOf finds the cgroup of a running pod by the pod's PID 1, as Leader returns it.
func GroupsOf(leader int) (Groups, error) {
	dirs, err := cgroup.Of(leader)
	if err != nil {
		return Groups{}, err
	}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil && filepath.Base(dir) == "init.scope" {
			return Groups{filepath.Dir(dir), dir}, nil
		}
	}
	return Groups{}, fmt.Errorf("process %d: is in no cgroup of version 2", leader)
}

// App is the directory of an app's cgroup. It is gone when the app has exited.
func (g Groups) App(name string) (dir string) {
	for _, dir = range cgroup.Unit([]string{g.leader}, "system.slice", name+".service") {
		if _, err := os.Stat(dir); err == nil {
			break
		}
	}
	return dir
}
