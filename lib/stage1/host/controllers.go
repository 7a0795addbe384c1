package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// controllers are what settings of an app's unit need of the kernel (cgroups(7)).
var controllers = map[string]string{
	"CPUWeight": "cpu", "CPUQuota": "cpu", "MemoryMax": "memory",
	"TasksMax": "pids", "IOReadBandwidthMax": "io", "IOWriteBandwidthMax": "io", "IOReadIOPSMax": "io", "IOWriteIOPSMax": "io",
}

// unasked are limits that every pod has, for which nobody asked: not to be told of where they can't
// be enforced.
var unasked = []string{"TasksMax=infinity", fmt.Sprintf("TasksMax=%d", stage1.DefaultTasks)}

// limitTasks has the host's systemd limit the tasks of the pod where the pod's own can't, for lack
// of a controller: in the scope that systemd-nspawn asks for, whose options it returns, or in the
// unit that the pod runs in. A unit that has a limit of its own keeps it. It reports whether the
// host's systemd enforces the limit.
func (s *starting) limitTasks() (options []string, enforced bool, err error) {
	all, err := s.limits()
	if err != nil {
		return nil, false, err
	}
	limit := ""
	for _, l := range all {
		for _, line := range l.lines {
			if l.unit == appsSlice && strings.HasPrefix(line, "TasksMax=") {
				limit = line
			}
		}
	}
	switch {
	case limit == "" || !systemd.Booted():
		return nil, false, nil
	case !KeepUnit():
		return []string{"--property=" + limit}, false, nil
	case slices.Contains(ownControllers(), "pids"):
		return nil, false, nil
	}
	return nil, LimitUnit(limit), nil
}

// LimitUnit has the host's systemd limit the tasks of the service that the process is in, and
// reports whether it does. limit is TasksMax=N; a service that has a limit of its own keeps it.
func LimitUnit(limit string) bool {
	unit := systemd.Unit()
	if !strings.HasSuffix(unit, ".service") || !kernelLimitsTasks() { // the caller's session, say
		return false
	}
	if had := property(unit, "TasksMax"); had != "infinity" {
		return had != ""
	}
	return setProperty(unit, limit) == nil
}

// kernelLimitsTasks reports whether the host has the pids controller, in either version of control
// groups.
func kernelLimitsTasks() bool {
	unified, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	_, err := os.Stat("/sys/fs/cgroup/pids")
	return err == nil || slices.Contains(strings.Fields(string(unified)), "pids")
}

// limit are the limits of an app, or of all apps together, as settings of
// systemd.resource-control(5).
type limit struct {
	unit, of string
	lines    []string
}

// appsSlice is the unit of the pod's systemd that all apps are in.
const appsSlice = "system.slice"

// limits are those of the pod: of all apps together, and of each, in the order of their units.
func (s *starting) limits() ([]limit, error) {
	all := []limit{{unit: appsSlice, of: "all apps"}}
	for _, a := range s.Apps {
		all = append(all, limit{unit: a.Name + ".service", of: fmt.Sprintf("app %q", a.Name)})
	}
	noted, err := stage1.ReadLimits(s.Pod)
	if err != nil {
		return nil, err
	}
	if noted == nil {
		err = s.formerLimits(all)
	} else {
		all[0].lines = settings(noted.Pod)
		for i, a := range s.Apps {
			all[1+i].lines = settings(noted.Apps[a.Name])
		}
	}
	slices.SortFunc(all, func(a, b limit) int { return strings.Compare(a.unit, b.unit) })
	return all, err
}

// formerLimits finds those of a pod of format 3 or before, which has them in its units only.
func (s *starting) formerLimits(all []limit) error {
	for i, l := range all {
		text, err := os.ReadFile(unitPath(s.Pod, l.unit))
		if errors.Is(err, fs.ErrNotExist) && l.unit == appsSlice {
			continue
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if name, _, _ := strings.Cut(line, "="); controllers[name] != "" {
				all[i].lines = append(all[i].lines, strings.TrimSpace(line))
			}
		}
	}
	return nil
}

// unenforced lists the limits of the pod and its apps that its cgroup can't enforce. tasks
// says that the limit of tasks is enforced elsewhere.
func (s *starting) unenforced(tasks bool) ([]string, error) {
	all, err := s.limits()
	if err != nil {
		return nil, err
	}
	var there, missing []string
	asked := false
	for _, limit := range all {
		for _, line := range limit.lines {
			setting, _, _ := strings.Cut(line, "=")
			if tasks && setting == "TasksMax" || slices.Contains(unasked, line) {
				continue
			}
			if !asked {
				asked, there = true, ownControllers()
			}
			if controller := controllers[setting]; !slices.Contains(there, controller) {
				missing = append(missing, fmt.Sprintf("%s: %s is not enforced: the pod's cgroup has no %s controller (a unit with Delegate=yes has all of the host's)",
					limit.of, line, controller))
			}
		}
	}
	return missing, nil
}

// ownControllers are those of the cgroup that the process is in.
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
func (s *starting) strictly(tasks bool) error {
	missing, err := s.unenforced(tasks)
	if err != nil {
		return err
	}
	if s.Strict && len(missing) > 0 {
		return fmt.Errorf("pod %s: %s", s.Pod.UUID, strings.Join(missing, "; "))
	}
	for _, line := range missing {
		s.Warn(line)
	}
	return nil
}
