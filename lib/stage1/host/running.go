package host

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/process"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// Init is the one child of systemd-nspawn that is in a PID namespace of its own.
func (Flavor) Init(supervisor int) int {
	pid, _ := process.Init(supervisor)
	return pid
}

// Root is where each pod that has a root of its own has that of an app.
func (Flavor) Root(app string) string { return stage1.AppRoot(app) }

// Processes are those in the cgroup of the app's unit, whose root directory is the app's root. One
// that the pod's systemd has just forked for the app may be one already, and still have all the
// power of systemd.
func (Flavor) Processes(leader int, app string) []int {
	unit, root := unitGroup(leader, app), stage1.AppRoot(app)
	var want, got unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/root%s", leader, root), &want); err != nil || unit == "" {
		return nil
	}
	started := map[int]uint64{}
	found := process.All(func(pid int) bool {
		group := process.Group(pid)
		if group != unit && !strings.HasPrefix(group, unit+"/") || !process.InPIDNamespace(leader, pid) ||
			unix.Stat(fmt.Sprintf("/proc/%d/root", pid), &got) != nil || got.Dev != want.Dev || got.Ino != want.Ino {
			return false
		}
		started[pid] = process.StartTime(pid)
		return true
	})
	slices.SortFunc(found, func(a, b int) int { return cmp.Or(cmp.Compare(started[a], started[b]), a-b) })
	return found
}

// Main is the oldest process in the cgroup of the app's unit that is not in the pod's own root, or
// 0. That is where rkt-stage2 is until just before it executes the app, and where it stays if the
// app has a PID namespace of its own: then the app's is PID 1 there.
func (Flavor) Main(leader int, app string) int {
	unit := unitGroup(leader, app)
	var top, root unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/root", leader), &top); err != nil || unit == "" {
		return 0
	}
	oldest, started := 0, uint64(math.MaxUint64)
	for _, pid := range process.All(func(pid int) bool {
		group := process.Group(pid)
		return (group == unit || strings.HasPrefix(group, unit+"/")) && process.InPIDNamespace(leader, pid) &&
			unix.Stat(fmt.Sprintf("/proc/%d/root", pid), &root) == nil && (root.Dev != top.Dev || root.Ino != top.Ino)
	}) {
		if at := process.StartTime(pid); at < started || at == started && pid < oldest {
			oldest, started = pid, at
		}
	}
	return oldest
}

// unitGroup is the cgroup of an app's unit, or "".
func unitGroup(leader int, app string) string {
	own := process.Group(leader)
	if own == "" {
		return ""
	}
	return strings.TrimSuffix(own, "/init.scope") + "/system.slice/" + app + ".service"
}

// Group finds the cgroup of version 2 by that of the pod's systemd. That of an app is gone when the
// app has exited.
func (Flavor) Group(leader int, app string) (string, error) {
	dirs, err := cgroup.Of(leader)
	if err != nil {
		return "", err
	}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil &&
			filepath.Base(dir) == "init.scope" {
			if app == "" {
				return filepath.Dir(dir), nil
			}
			return appGroup(dir, app), nil
		}
	}
	return "", fmt.Errorf("process %d: is in no cgroup of version 2", leader)
}

func appGroup(leader, app string) (dir string) {
	for _, dir = range cgroup.Unit([]string{leader}, "system.slice", app+".service") {
		if _, err := os.Stat(dir); err == nil {
			break
		}
	}
	return dir
}
