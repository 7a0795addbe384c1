package initflavor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/devfilter"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/machined"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/pid1"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
	"golang.org/x/sys/unix"
)

// The groups below that of the pod's unit: the pod's own, which flavor host has under that name
// too, and the launcher's, where the unit's has controllers.
const (
	payload    = "payload"
	supervisor = "supervisor"
)

// place makes the pod's cgroups, below that of the service that the process is in or of a scope,
// with the pod's limit of tasks and its device filter, and has systemd-machined know the pod. It
// returns a descriptor of the pod's group.
func (s *starting) place() (int, error) {
	keep := place.KeepUnit()
	if err := s.own(keep); err != nil {
		return -1, err
	}
	unit, err := cgroup.In(cgroup.Unified)
	if err == nil && unit == "" {
		err = errors.New("is in no cgroup of version 2")
	}
	if err != nil {
		return -1, err
	}
	group := filepath.Join(unit, payload)
	if err := cgroup.Make(group); err != nil {
		return -1, err
	}
	switch {
	case len(s.planned) > 0:
		err = s.enforce(unit, keep)
	case keep:
		err = s.limitTasks(unit, group)
	}
	if err != nil {
		return -1, err
	}
	if err := s.filterDevices(group); err != nil {
		return -1, err
	}
	if err := s.makeGroups(group); err != nil {
		return -1, err
	}
	if keep && s.machine != "" {
		if err := machined.Register(context.Background(), s.machine, s.Pod.UUID, os.Getpid(), s.Pod.Dir()); err != nil {
			return -1, err
		}
	}
	return unix.Open(group, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// own has the process in a cgroup of its own: in a service that is the service's, else a scope, or
// where systemd is not the host's init one that it makes.
func (s *starting) own(keep bool) error {
	if !systemd.Booted() || keep {
		return place.PickGroup(s.Pod, keep)
	}
	properties := []string{"TasksMax=" + tasks(s.limits.Pod.TasksMax)}
	return machined.Create(context.Background(), s.machine, s.Pod.UUID, os.Getpid(), s.Pod.Dir(), properties)
}

// tasks is a limit of tasks as the kernel and systemd have it.
func tasks(n uint64) string {
	if n == 0 {
		return "max"
	}
	return strconv.FormatUint(n, 10)
}

// limitTasks limits the tasks of a pod in a service, for which nobody has asked otherwise: by its
// own group where that has the controller, else by the service's.
func (s *starting) limitTasks(unit, group string) error {
	if s.limits.Pod.TasksMax == 0 {
		return nil
	}
	if !slices.Contains(cgroup.Controllers(unit), "pids") {
		s.limitUnit()
		return nil
	}
	err := enable(unit, []string{"pids"})
	if errors.Is(err, unix.EBUSY) { // somebody else's process is in the unit
		s.limitUnit()
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(group+"/pids.max", []byte(tasks(s.limits.Pod.TasksMax)), 0)
}

// filterDevices keeps the pod from all devices but those that its apps have.
func (s *starting) filterDevices(group string) error {
	err := devfilter.Attach(group, s.Rules)
	if !errors.Is(err, devfilter.ErrUnsupported) {
		return err
	}
	limited, err := place.LimitDevices(s.Pod, s.Rules)
	if err != nil || limited {
		return err
	}
	return place.NoFilter(s.Start)
}

// makeGroups makes the groups of the apps. PID 1 has apps start there, for which it has to be able
// to write to cgroup.procs, and to no other file.
func (s *starting) makeGroups(group string) error {
	dirs := []string{group, filepath.Join(group, pid1.AppsGroup)}
	if len(s.controllers) > 0 {
		dirs = append(dirs, filepath.Join(group, pid1.OwnGroup))
	}
	for _, a := range s.Apps {
		dirs = append(dirs, filepath.Join(group, pid1.AppGroup(a.Name)))
		if isChecked(a) {
			dirs = append(dirs, filepath.Join(group, pid1.CheckGroup(a.Name)))
		}
	}
	if err := cgroup.Make(dirs...); err != nil {
		return err
	}
	if s.Users == nil {
		return nil
	}
	for _, dir := range dirs {
		if err := os.Chown(dir+"/cgroup.procs", int(s.Users.Base), int(s.Users.Base)); err != nil {
			return err
		}
	}
	return nil
}

// isChecked reports whether an app has a health check.
func isChecked(a *stage1.Starting) bool {
	_, checked := a.Prepared.Annotations[stage1.HandlerAnnotation+stage1.HealthCheck]
	return checked
}
