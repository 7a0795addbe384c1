package run

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// controllers are what settings of an app's unit need of the kernel (cgroups(7)).
var controllers = map[string]string{
	"CPUWeight": "cpu", "CPUQuota": "cpu", "MemoryMax": "memory",
	"TasksMax": "pids", "IOReadBandwidthMax": "io", "IOWriteBandwidthMax": "io", "IOReadIOPSMax": "io", "IOWriteIOPSMax": "io",
}

// unasked are limits that every pod has, for which nobody asked: not to be told of where they can't be enforced.
var unasked = []string{"TasksMax=infinity", fmt.Sprintf("TasksMax=%d", stage1.DefaultTasks)}

// limitTasks has the host's systemd limit the tasks of the pod where the pod's own can't, for lack of a controller: in
// the scope that systemd-nspawn asks for, whose options it returns, or in the unit that the pod runs in. A unit that
// has a limit of its own keeps it. It reports whether the host's systemd enforces the limit.
func limitTasks(p *poddir.Pod) (options []string, enforced bool, err error) {
	text, err := os.ReadFile(unitPath(p, "system.slice"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	limit := ""
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "TasksMax=") {
			limit = strings.TrimSpace(line)
		}
	}
	switch {
	case limit == "" || !systemd.Booted():
		return nil, false, nil
	case !keepUnit():
		return []string{"--property=" + limit}, false, nil
	case slices.Contains(ownControllers(), "pids") || !kernelLimitsTasks():
		return nil, false, nil
	}
	unit := systemd.Unit()
	if !strings.HasSuffix(unit, ".service") { // the caller's session, say
		return nil, false, nil
	}
	if had := property(unit, "TasksMax"); had != "infinity" {
		return nil, had != "", nil
	}
	return nil, setProperty(unit, limit) == nil, nil
}

// kernelLimitsTasks reports whether the host has the pids controller, in either version of control groups.
func kernelLimitsTasks() bool {
	unified, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	_, err := os.Stat("/sys/fs/cgroup/pids")
	return err == nil || slices.Contains(strings.Fields(string(unified)), "pids")
}

// unenforced lists the limits of the pod and its apps that its control group can't enforce. tasks says that the limit
// of tasks is enforced elsewhere.
func unenforced(p *poddir.Pod, tasks bool) ([]string, error) {
	apps, err := os.ReadDir(p.Path(poddir.AppsDir))
	if err != nil {
		return nil, err
	}
	units := map[string]string{"system.slice": "all apps"}
	for _, app := range apps {
		units[app.Name()+".service"] = fmt.Sprintf("app %q", app.Name())
	}
	var there []string
	asked := false
	var missing []string
	for _, unit := range slices.Sorted(maps.Keys(units)) {
		text, err := os.ReadFile(unitPath(p, unit))
		if errors.Is(err, fs.ErrNotExist) && unit == "system.slice" {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			setting, _, _ := strings.Cut(line, "=")
			controller := controllers[setting]
			if controller == "" || tasks && setting == "TasksMax" || slices.Contains(unasked, strings.TrimSpace(line)) {
				continue
			}
			if !asked {
				asked, there = true, ownControllers()
			}
			if !slices.Contains(there, controller) {
				missing = append(missing, fmt.Sprintf("%s: %s is not enforced: the pod's control group has no %s controller (a unit with Delegate=yes has all of the host's)",
					units[unit], strings.TrimSpace(line), controller))
			}
		}
	}
	return missing, nil
}

// ownControllers are those of the control group that the process is in.
func ownControllers() []string {
	groups, err := cgroup.Own()
	if err != nil {
		return nil
	}
	var all []string
	for _, group := range groups {
		text, err := os.ReadFile(filepath.Join(group, "cgroup.controllers"))
		if err == nil {
			all = append(all, strings.Fields(string(text))...)
		}
	}
	return all
}

// strictly refuses a pod some of whose limits would not hold, or tells of them.
func strictly(p *poddir.Pod, o Options, tasks bool) error {
	missing, err := unenforced(p, tasks)
	if err != nil {
		return err
	}
	if o.Strict && len(missing) > 0 {
		return fmt.Errorf("pod %s: %s", p.UUID, strings.Join(missing, "; "))
	}
	for _, line := range missing {
		o.Warn(line)
	}
	return nil
}
