package initflavor

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/pid1"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
	"golang.org/x/sys/unix"
)

// period is that of a limit of CPU time, and quota the shortest time in it that the kernel takes,
// in microseconds.
const (
	period = 100_000
	quota  = 1000
)

// limitFiles are limits as the kernel has them, in a group below the pod's. disk is the device
// whose bandwidth is limited, MAJOR:MINOR.
func limitFiles(group string, r stage1.Resources, disk string) (limits []plan.Limit) {
	add := func(wanted uint64, controller, file, format string, args ...any) {
		if wanted > 0 {
			limits = append(limits, plan.Limit{Controller: controller, File: group + "/" + file,
				Text: fmt.Sprintf(format, args...)})
		}
	}
	add(r.CPUWeight, "cpu", "cpu.weight", "%d", r.CPUWeight)
	if r.CPUMilli*period/1000 >= quota {
		add(r.CPUMilli, "cpu", "cpu.max", "%d %d", r.CPUMilli*period/1000, period)
	} else if r.CPUMilli > 0 {
		add(r.CPUMilli, "cpu", "cpu.max", "%d %d", quota, quota*1000/r.CPUMilli)
	}
	add(r.MemoryMax, "memory", "memory.max", "%d", r.MemoryMax)
	add(r.TasksMax, "pids", "pids.max", "%d", r.TasksMax)
	add(r.BlockBandwidth, "io", "io.max", "%s rbps=%d wbps=%[2]d", disk, r.BlockBandwidth)
	add(r.BlockIOPS, "io", "io.max", "%s riops=%d wiops=%[2]d", disk, r.BlockIOPS)
	return limits
}

// isAsked reports whether somebody has asked for these limits.
func isAsked(l *stage1.PodLimits) bool {
	pod := l.Pod
	if pod.TasksMax == stage1.DefaultTasks {
		pod.TasksMax = 0
	}
	if pod != (stage1.Resources{}) {
		return true
	}
	for _, app := range l.Apps {
		if app != (stage1.Resources{}) {
			return true
		}
	}
	return false
}

// planLimits are the limits of the pod, of all its apps together and of each.
func (s *starting) planLimits() ([]plan.Limit, error) {
	disk := ""
	all := append(slices.Collect(maps.Values(s.limits.Apps)), s.limits.Pod)
	if slices.ContainsFunc(all, func(r stage1.Resources) bool { return r.BlockBandwidth > 0 || r.BlockIOPS > 0 }) {
		var err error
		if disk, err = diskOf(s.Pod.Path(poddir.RootDir)); err != nil {
			return nil, fmt.Errorf("limits of disks: %w", err)
		}
	}
	limits := limitFiles(pid1.AppsGroup, s.limits.Pod, disk)
	for _, a := range s.Apps {
		groups := []string{pid1.AppGroup(a.Name)}
		if isChecked(a) {
			groups = append(groups, pid1.CheckGroup(a.Name))
		}
		for _, group := range groups {
			limits = append(limits, limitFiles(group[1:], s.limits.Apps[a.Name], disk)...)
		}
	}
	return limits, nil
}

// enforce gives the pod's group below the unit's the controllers that its limits need, and tells of
// limits that no controller can enforce. The launcher does the rest. keep says that the unit is a
// service.
func (s *starting) enforce(unit string, keep bool) error {
	var wanted []string
	for _, l := range s.planned {
		if !slices.Contains(wanted, l.Controller) {
			wanted = append(wanted, l.Controller)
		}
	}
	if !systemd.Booted() { // whoever it was that has made the group above gives it what there is
		for _, c := range wanted {
			cgroup.Enable(filepath.Dir(unit), c)
		}
	}
	there := cgroup.Controllers(unit)
	for _, c := range wanted {
		if slices.Contains(there, c) {
			s.controllers = append(s.controllers, c)
		}
	}
	all := []place.Limit{{Of: "all apps", Lines: place.Settings(s.limits.Pod)}}
	for _, a := range s.Apps {
		all = append(all, place.Limit{Of: fmt.Sprintf("app %q", a.Name), Lines: place.Settings(s.limits.Apps[a.Name])})
	}
	tasks := !keep // by the scope
	if keep && !slices.Contains(there, "pids") {
		tasks = s.limitUnit()
	}
	missing := place.Unenforced(all, tasks, func() []string { return there })
	if len(s.controllers) > 0 {
		err := enable(unit, s.controllers)
		if errors.Is(err, unix.EBUSY) {
			s.controllers = nil
			missing = []string{"limits are not enforced: other processes are in the cgroup of the pod's unit; " +
				"have the unit run nothing else"}
		} else if err != nil {
			return err
		}
	}
	return place.Strictly(s.Start, missing)
}

// enable has the groups below the unit's have the controllers. A group with controllers below has
// no process of its own.
func enable(unit string, controllers []string) error {
	own := filepath.Join(unit, supervisor)
	if err := cgroup.Make(own); err != nil {
		return err
	}
	if err := cgroup.Enter([]string{own}, os.Getpid()); err != nil {
		return err
	}
	for _, c := range controllers {
		if err := cgroup.Enable(unit, c); err != nil {
			return fmt.Errorf("controller %s: %w", c, err)
		}
	}
	return nil
}

// limitUnit has the host's systemd limit the tasks of the pod's service, and reports whether it
// does.
func (s *starting) limitUnit() bool {
	return s.limits.Pod.TasksMax > 0 && systemd.Booted() && place.LimitUnit("TasksMax="+tasks(s.limits.Pod.TasksMax))
}
