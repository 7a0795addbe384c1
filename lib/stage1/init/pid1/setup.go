// Package pid1 is the PID 1 of a pod of flavor init. It makes the rest of the pod's root, starts
// the apps by rkt-stage2, reads what they print, stops and reaps them, and records how they end.
package pid1

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
	"golang.org/x/sys/unix"
)

const (
	// Command is the subcommand of rkt-stage2.
	Command = "pod"
	// Outside is the pod's root as the launcher sees it.
	Outside = "/pod"
	// ProcDir is where the pod's /proc is mounted whole, so that the kernel lets an app with a PID
	// namespace of its own mount the /proc of that in a user namespace (mount_too_revealing). No
	// app gets there.
	ProcDir = "/rkt/proc"
	// Users is how many users a pod has.
	Users = 1 << 16
	// StopSignal asks PID 1 to end the pod: SIGRTMIN+3, as for systemd.
	StopSignal unix.Signal = 34 + 3
	// TakesSignals is the name of the process when it does.
	TakesSignals = "rkt-init"
	// AskToStop is the launcher's message for the same.
	AskToStop = "stop"
	// Placed is its message that the pod's groups have their limits. PID 1 starts no app before, if
	// it has been started with this argument.
	Placed = "placed"
	// AppsGroup is the cgroup that those of all apps are in, and OwnGroup PID 1's own, below the
	// pod's. Without limits PID 1 is in the pod's.
	AppsGroup = "system.slice"
	OwnGroup  = "init.scope"
)

// AppGroup is the cgroup of an app, below the pod's.
func AppGroup(app string) string { return "/" + AppsGroup + "/" + app + ".service" }

// CheckGroup is that of the checks of an app's health. No app has an @ in its name.
func CheckGroup(app string) string { return "/" + AppsGroup + "/health@" + app + ".service" }

// groups is where the pod's cgroups are seen in the pod.
const groups = "/sys/fs/cgroup"

// readOnly are parts of the pod's /proc that change the host.
var readOnly = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"}

// setUp makes the pod's root what it is to be, and leaves nothing under it; then the process gives
// up what it does not need. The caller has locked the thread.
func setUp(p *plan.Plan) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("mount propagation: %w", err)
	}
	if err := enterPod(); err != nil {
		return err
	}
	if err := mountAll(p); err != nil {
		return err
	}
	if err := overlay.Pivot(); err != nil { // takes the launcher's root away
		return err
	}
	if err := unix.Sethostname([]byte(p.Hostname)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	unix.Umask(0o022)
	return reduce(p.Capabilities)
}

// enterPod makes the pod's root the root, and has the launcher's lie over it, where /proc is, until
// overlay.Pivot.
func enterPod() error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, Outside, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("the pod's root: %w", err)
	}
	defer unix.Close(tree)
	// A mount of this namespace's own: none that the kernel has locked to others can be a root.
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, Outside, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("the pod's root: %w", err)
	}
	return unix.Chdir(Outside)
}

// mountAll mounts what is the pod's namespaces'. Paths are relative to the pod's root.
func mountAll(p *plan.Plan) error {
	const plain = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, dir := range []string{"dev/pts", "dev/shm", "dev/mqueue"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	shm := "size=10%,nr_inodes=400k"
	if p.Shm > 0 {
		shm = "size=" + strconv.FormatUint(p.Shm, 10)
	}
	context := ""
	for _, option := range overlay.Context(p.MountLabel) {
		context += "," + option
	}
	for _, m := range []struct {
		kind, at, options string
		flags             uintptr
	}{
		{"proc", ProcDir[1:], "", plain},
		{"proc", "proc", "", plain},
		{"cgroup2", groups[1:], "", plain},
		{"devpts", "dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5" + context, unix.MS_NOSUID | unix.MS_NOEXEC},
		{"tmpfs", "dev/shm", "mode=1777," + shm + context, unix.MS_NOSUID | unix.MS_NODEV},
		{"mqueue", "dev/mqueue", "", plain},
		{"tmpfs", "run", "mode=0755,size=20%,nr_inodes=800k" + context, unix.MS_NOSUID | unix.MS_NODEV},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("%s on /%s: %w", m.kind, m.at, err)
		}
	}
	if err := os.Symlink("pts/ptmx", "dev/ptmx"); err != nil {
		return err
	}
	if p.Writable {
		return nil
	}
	for _, path := range readOnly {
		if err := protect(path[1:]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read-only %s: %w", path, err)
		}
	}
	return nil
}

// protect makes a directory read-only.
func protect(path string) error {
	target, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer target.Close()
	return overlay.ReadOnly(target)
}

// reduce gives up all capabilities but these, for the calling thread and what it starts.
func reduce(keep uint64) error {
	for c := range uint(64) {
		if keep&(1<<c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); errors.Is(err, unix.EINVAL) {
			break // the kernel has no more
		} else if err != nil {
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for i := range sets {
		part := uint32(keep >> (32 * i))
		sets[i].Permitted &= part
		sets[i].Effective, sets[i].Inheritable = sets[i].Permitted, 0
	}
	if err := unix.Capset(&header, &sets[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}
