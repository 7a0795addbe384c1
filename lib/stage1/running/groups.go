package running

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
)

// Groups are directories of cgroups of a running pod, in the hierarchy of version 2, and the pod's PID 1.
type Groups struct {
	Leader int
	Pod    string // the one that all processes of the pod are in, or below
}

// GroupsOf finds the cgroup of a running pod by the pod's PID 1, as Leader returns it.
func GroupsOf(leader int) (Groups, error) {
	dirs, err := cgroup.Of(leader)
	if err != nil {
		return Groups{}, err
	}
	for _, dir := range dirs {
		if filepath.Base(dir) == "init.scope" { // the pod's systemd is in one of its own
			dir = filepath.Dir(dir)
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
			return Groups{leader, dir}, nil
		}
	}
	return Groups{}, fmt.Errorf("process %d: is in no cgroup of version 2", leader)
}

// App is the directory of an app's cgroup. It is gone when the app has exited.
func (g Groups) App(name string) string {
	slice := filepath.Join(g.Pod, "system.slice")
	dir := filepath.Join(slice, name+".service")
	if _, err := os.Stat(dir); err != nil { // systemd's cg_escape
		if escaped := filepath.Join(slice, "_"+name+".service"); exists(escaped) {
			return escaped
		}
	}
	return dir
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
