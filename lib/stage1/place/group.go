// Package place is what the host gives a pod whose apps have processes beside them: its cgroup, its
// device filter, and its limits.
package place

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// Payload is the cgroup that systemd-nspawn makes for a pod that stays in the unit it is
// started in.
const Payload = "payload"

// PickGroup sees to it that the pod's cgroup is its own. In a unit that has had a pod
// before, as one that runs "rkt run" several times, what is left of that one's group belongs to its
// users: the pod's systemd could not use it.
func PickGroup(p *poddir.Pod, keepUnit bool) error {
	switch {
	case !systemd.Booted():
		return ownGroup(p)
	case keepUnit:
		if err := cgroup.RemoveEmpty(Payload); err != nil {
			return fmt.Errorf("pod %s: %w", p.UUID, err)
		}
	}
	return nil
}

// ownGroup moves the process into a cgroup of its own where no systemd has put it into one:
// the pod's systemd takes the group that it is in for its own, and would take the processes of
// another pod there for its own as well.
func ownGroup(p *poddir.Pod) error {
	parents, err := cgroup.Own()
	if err != nil {
		return err
	}
	dirs, err := NoteGroups(p, parents)
	if err != nil {
		return err
	}
	if err = cgroup.Make(dirs...); err == nil {
		err = cgroup.Enter(dirs, os.Getpid())
	}
	if err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}

// NoteGroups notes, for rkt-gc, that groups of the pod's are about to be made below some others,
// and returns their directories. Those of a start that was killed, maybe in another group, stay
// noted.
func NoteGroups(p *poddir.Pod, parents []string) (dirs []string, err error) {
	earlier, err := p.ReadFile(poddir.CgroupFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, parent := range parents {
		dirs = append(dirs, filepath.Join(parent, stage1.PodName(p.UUID)))
	}
	note := string(earlier) + strings.Join(dirs, "\n") + "\n"
	return dirs, durable.WriteFile(p.Path(poddir.CgroupFile), []byte(note), 0o600)
}

// KeepUnit reports whether systemd-nspawn stays in the unit that it is started in. A service is a
// unit of the pod already; elsewhere systemd-nspawn asks systemd for a scope.
func KeepUnit() bool {
	return !CanRegister() || strings.HasSuffix(systemd.Unit(), ".service")
}

// CanRegister reports whether systemd is the host's init and systemd-machined can be reached, so
// that a pod can be a machine there.
func CanRegister() bool {
	if !systemd.Booted() {
		return false
	}
	_, errBus := os.Stat("/run/dbus/system_bus_socket")
	_, errMachined := os.Stat("/usr/lib/systemd/systemd-machined")
	return errBus == nil && errMachined == nil
}

// Return moves the process out of the cgroups that were made for the pod, back to where it was:
// for a start that has failed, so that they can be removed.
func Return(p *poddir.Pod) error {
	note, err := p.ReadFile(poddir.CgroupFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	for dir := range strings.FieldsSeq(string(note)) {
		errs = append(errs, cgroup.Enter([]string{filepath.Dir(dir)}, os.Getpid()))
	}
	return errors.Join(append(errs, err)...)
}

// RemoveGroups removes the cgroups that rkt-run-prepared made for the pod.
func RemoveGroups(p *poddir.Pod) error {
	note, err := p.ReadFile(poddir.CgroupFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for dir := range strings.FieldsSeq(string(note)) {
		if filepath.Base(dir) == stage1.PodName(p.UUID) { // nothing but the pod's
			errs = append(errs, cgroup.Remove(dir, time.Second))
		}
	}
	return errors.Join(errs...)
}
