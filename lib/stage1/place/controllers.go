package place

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// Controllers are what settings of an app's unit need of the kernel (cgroups(7)).
var Controllers = map[string]string{
	"CPUWeight": "cpu", "CPUQuota": "cpu", "MemoryMax": "memory",
	"TasksMax": "pids", "IOReadBandwidthMax": "io", "IOWriteBandwidthMax": "io", "IOReadIOPSMax": "io",
	"IOWriteIOPSMax": "io",
}

// unasked are limits that every pod has, for which nobody asked: not to be told of where they can't
// be enforced.
var unasked = []string{"TasksMax=infinity", fmt.Sprintf("TasksMax=%d", stage1.DefaultTasks)}

// LimitUnit has the host's systemd limit the tasks of the service that the process is in, and
// reports whether it does. limit is TasksMax=N; a service that has a limit of its own keeps it.
func LimitUnit(limit string) bool {
	unit := systemd.Unit()
	if !strings.HasSuffix(unit, ".service") || !kernelLimitsTasks() { // the caller's session, say
		return false
	}
	if had := Property(unit, "TasksMax"); had != "infinity" {
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

// Limit are the limits of an app, or of all apps together, as settings of
// systemd.resource-control(5).
type Limit struct {
	Unit, Of string
	Lines    []string
}

// AppsSlice is the unit of the pod's systemd that all apps are in.
const AppsSlice = "system.slice"

// OwnControllers are those of the cgroup that the process is in.
func OwnControllers() []string {
	groups, err := cgroup.Own()
	if err != nil {
		return nil
	}
	var all []string
	for _, group := range groups {
		all = append(all, cgroup.Controllers(group)...)
	}
	return all
}

// Settings are the lines of systemd.resource-control(5).
func Settings(i stage1.Resources) (lines []string) {
	add := func(wanted bool, format string, args ...any) {
		if wanted {
			lines = append(lines, fmt.Sprintf(format, args...))
		}
	}
	add(i.CPUWeight > 0, "CPUWeight=%d", i.CPUWeight)
	if i.CPUMilli > 0 {
		add(true, "CPUQuota=%d.%d%%", i.CPUMilli/10, i.CPUMilli%10)
	}
	add(i.MemoryMax > 0, "MemoryMax=%d", i.MemoryMax)
	add(i.TasksMax > 0, "TasksMax=%d", i.TasksMax)
	for _, way := range []string{"Read", "Write"} {
		// of the disk that the pod's directory is on, and with it all that the app writes
		add(i.BlockBandwidth > 0, "IO%sBandwidthMax=/rkt %d", way, i.BlockBandwidth)
		add(i.BlockIOPS > 0, "IO%sIOPSMax=/rkt %d", way, i.BlockIOPS)
	}
	return lines
}

// Unenforced lists the limits that a cgroup which has the controllers there can't enforce. tasks
// says that the limit of tasks is enforced elsewhere.
func Unenforced(all []Limit, tasks bool, controllers func() []string) []string {
	var there, missing []string
	asked := false
	for _, limit := range all {
		for _, line := range limit.Lines {
			setting, _, _ := strings.Cut(line, "=")
			if tasks && setting == "TasksMax" || slices.Contains(unasked, line) {
				continue
			}
			if !asked {
				asked, there = true, controllers()
			}
			if controller := Controllers[setting]; !slices.Contains(there, controller) {
				missing = append(missing, fmt.Sprintf("%s: %s is not enforced: the pod's cgroup has no %s "+
					"controller (a unit with Delegate=yes has all of the host's)",
					limit.Of, line, controller))
			}
		}
	}
	return missing
}

// Strictly refuses a pod some of whose limits would not hold, or tells of them.
func Strictly(s *stage1.Start, missing []string) error {
	if s.Strict && len(missing) > 0 {
		return fmt.Errorf("pod %s: %s", s.Pod.UUID, strings.Join(missing, "; "))
	}
	for _, line := range missing {
		s.Warn(line)
	}
	return nil
}
