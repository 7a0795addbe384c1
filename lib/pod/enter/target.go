package enter

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/openat"
	"github.com/rkt-toolkit/rkt/lib/host/process"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
	"golang.org/x/sys/unix"
)

// target is what a command joins, opened and checked. Namespaces are those of the pod's PID 1, but
// for the mount namespace, of which each app has its own.
type target struct {
	leader, process int        // the pod's PID 1, and one of the app
	nested          bool       // the app has a PID namespace of its own
	held            []*os.File // pidfds of the two
	users           *users
	outer           []*os.File // namespaces that only the host's root can join: network, IPC, host name
	pid, cgroup     *os.File   // namespaces
	mounts          *os.File   // mount namespace
	groups          []*os.File // cgroup.procs of the app's cgroups
	root            fileID     // of the app
	bounding        uint64     // of the pod
}

// fileID tells a directory, or a namespace, from others.
type fileID struct{ Dev, Ino uint64 }

func idOf(fd int) (fileID, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return fileID{uint64(st.Dev), st.Ino}, err
}

// findTarget looks for an app of a running pod. What it returns counts once confirm has been
// called.
func findTarget(p running.Pod, record *stage1.Record) (*target, error) {
	t, app := &target{nested: record.OwnPIDs}, record.Name
	var err error
	if t.leader, err = p.Leader(); err != nil {
		return nil, err
	}
	if err = t.open(p, app); err != nil {
		t.close()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			err = errors.New("has just ended")
		}
		return nil, fmt.Errorf("pod %s: app %q: %w", p.UUID, app, err)
	}
	return t, nil
}

// open opens all that the command joins.
func (t *target) open(p running.Pod, app string) (err error) {
	if err := t.hold(t.leader); err != nil {
		return err
	}
	if t.users, err = usersOf(p.Pod, t.leader); err != nil {
		return err
	}
	if err := t.findProcess(p, app); err != nil {
		return err
	}
	for _, kind := range []string{"net", "ipc", "uts"} {
		ns, err := openNamespace(t.leader, kind)
		if err != nil {
			return err
		}
		t.outer = append(t.outer, ns)
	}
	namespaced := t.leader
	if t.nested {
		namespaced = t.process
	}
	if t.pid, err = openNamespace(namespaced, "pid"); err != nil {
		return err
	}
	if t.cgroup, err = openNamespace(t.leader, "cgroup"); err != nil {
		return err
	}
	if t.bounding, err = process.BoundingSet(t.leader); err != nil {
		return err
	}
	if t.root, err = t.appRoot(p.Flavor.Root(app)); err != nil {
		return err
	}
	return t.openGroups()
}

// findProcess holds the oldest process of the app, which may be starting, whose mount namespace is
// the pod's. Others come and go below it.
func (t *target) findProcess(p running.Pod, app string) error {
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		for _, pid := range p.Flavor.Processes(t.leader, app) {
			if t.take(pid) {
				return nil
			}
		}
		if _, ended := p.AppStatus(app); ended || time.Now().After(end) {
			return errors.New("does not run")
		}
	}
}

// take holds a process and its mount namespace if it is of use.
func (t *target) take(pid int) bool {
	if t.hold(pid) != nil {
		return false
	}
	mounts, err := openNamespace(pid, "mnt")
	if err == nil {
		if t.ownsMounts(mounts) {
			t.process, t.mounts = pid, mounts
			return true
		}
		mounts.Close()
	}
	last := len(t.held) - 1
	t.held[last].Close()
	t.held = t.held[:last]
	return false
}

// hold opens a process of the pod. Its number could have become another's before.
func (t *target) hold(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	own := process.SamePIDNamespace
	if t.nested && pid != t.leader {
		own = process.NestedPIDNamespace
	}
	if !own(t.leader, pid) {
		unix.Close(fd)
		return unix.ESRCH
	}
	t.held = append(t.held, os.NewFile(uintptr(fd), "process"))
	return nil
}

// confirm checks that all that was opened by a number was of the processes that are held.
func (t *target) confirm(p running.Pod) error {
	for _, f := range t.held {
		if err := unix.PidfdSendSignal(int(f.Fd()), 0, nil, 0); err != nil {
			return errors.New("has just ended")
		}
	}
	if again, err := p.Leader(); err != nil || again != t.leader {
		return errors.New("has just ended")
	}
	return nil
}

// ownsMounts reports whether a mount namespace is of the pod's user namespace, and not the
// caller's.
func (t *target) ownsMounts(mounts *os.File) bool {
	if own, err := isOwn(mounts, "mnt"); err != nil || own {
		return false
	}
	fd, err := unix.IoctlRetInt(int(mounts.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return false
	}
	owner := os.NewFile(uintptr(fd), "owner")
	defer owner.Close()
	same := false
	if t.users == nil {
		same, err = isOwn(owner, "user")
	} else {
		same, err = isSame(owner, t.users.files[0])
	}
	return err == nil && same
}

// appRoot is the app's root, by its path as the pod's PID 1 has it.
func (t *target) appRoot(path string) (fileID, error) {
	in, err := unix.Open(fmt.Sprintf("/proc/%d/root", t.leader), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fileID{}, err
	}
	defer unix.Close(in)
	fd, err := openat.FD(in, "."+path, unix.O_PATH|unix.O_DIRECTORY, openat.NoLinks)
	if err != nil {
		return fileID{}, fmt.Errorf("root: %w", err)
	}
	defer unix.Close(fd)
	return idOf(fd)
}

func (t *target) openGroups() error {
	dirs, err := cgroup.Of(t.process)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		procs, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		t.groups = append(t.groups, procs)
	}
	return nil
}

func (t *target) close() {
	for _, files := range [][]*os.File{t.held, t.outer, {t.pid, t.cgroup, t.mounts}, t.groups} {
		closeAll(files)
	}
	if t.users != nil {
		closeAll(t.users.files)
	}
}

func openNamespace(pid int, kind string) (*os.File, error) {
	return os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
}

// isOwn reports whether the process is in a namespace.
func isOwn(ns *os.File, kind string) (bool, error) {
	own, err := os.Open("/proc/thread-self/ns/" + kind)
	if err != nil {
		return false, err
	}
	defer own.Close()
	return isSame(ns, own)
}

func isSame(a, b *os.File) (bool, error) {
	x, errX := idOf(int(a.Fd()))
	y, errY := idOf(int(b.Fd()))
	return x == y, errors.Join(errX, errY)
}
