package initflavor

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/launcher"
	"golang.org/x/sys/unix"
)

// nodes are the devices of the pod's /dev that every host has, and those that it may not have.
var (
	nodes    = []string{"/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"}
	optional = []string{stage1.TunDevice}
)

// plain are the attributes of a mount that has neither programs nor devices.
const plain = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// leave is Process.Leave. It makes what of the pod's root only root of the host can make, and moves
// the calling thread, which has a mount namespace to itself, into a root that has the pod's and
// /proc, by which the launcher makes a user namespace, and nothing else. The pod's PID 1 takes that
// away from under its own root.
func (s *starting) leave() error {
	if err := s.mountHost(); err != nil {
		return err
	}
	const clone = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE
	pod, err := unix.OpenTree(unix.AT_FDCWD, s.Pod.Path(poddir.RootDir), clone)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Pod.Path(poddir.RootDir), err)
	}
	defer unix.Close(pod)
	proc, err := unix.OpenTree(unix.AT_FDCWD, "/proc", clone)
	if err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	defer unix.Close(proc)
	tree, err := overlay.NewFileSystem("tmpfs", plain, "source=rkt", "mode=0755")
	if err != nil {
		return fmt.Errorf("new root: %w", err)
	}
	root := os.NewFile(uintptr(tree), "new root")
	defer root.Close()
	const at = "/proc" // which is not needed any more
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("new root on %s: %w", at, err)
	}
	for _, m := range []struct {
		tree int
		at   string
	}{{pod, launcher.Root}, {proc, "/proc"}} {
		target, err := overlay.MountPoint(root, m.at, m.tree)
		if err == nil {
			err = overlay.MoveTo(m.tree, target)
			target.Close()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.at, err)
		}
	}
	return enter(tree)
}

// enter makes an opened mount the root, and takes the host's away.
func enter(root int) error {
	if err := unix.Fchdir(root); err != nil {
		return err
	}
	err := overlay.Pivot()
	if errors.Is(err, unix.EINVAL) {
		return errors.New("the host's root is the kernel's own, or a chroot: a pod of flavor init can't leave that")
	}
	if err != nil {
		return fmt.Errorf("new root: %w", err)
	}
	return nil
}

// mountHost mounts in the pod's root what only root of the host can: /sys, which shows the network
// namespace that the thread is in, device nodes, and the socket of the host's journal if the pod's
// lines go there.
func (s *starting) mountHost() error {
	root, err := os.Open(s.Pod.Path(poddir.RootDir))
	if err != nil {
		return err
	}
	defer root.Close()
	sysAttributes := plain
	if !s.Writable {
		sysAttributes |= unix.MOUNT_ATTR_RDONLY
	}
	if err := mountNew(root, "sysfs", "/sys", sysAttributes, "source=sysfs"); err != nil {
		return err
	}
	owner := "0"
	if s.Users != nil {
		owner = strconv.FormatUint(uint64(s.Users.Base), 10)
	}
	label := ""
	if s.Label != nil {
		label = s.Label.String()
	}
	options := []string{"source=tmpfs", "mode=0755", "size=1m", "nr_inodes=1k", "uid=" + owner, "gid=" + owner}
	options = append(options, overlay.Context(label)...)
	if err := mountNew(root, "tmpfs", "/dev", plain, options...); err != nil {
		return err
	}
	if err := mountNodes(root); err != nil {
		return err
	}
	if err := s.mountConsole(root); err != nil {
		return fmt.Errorf("the pod's /dev/console: %w", err)
	}
	if s.journal == "" {
		return nil
	}
	return overlay.BindNode(unix.AT_FDCWD, s.journal, root, streams.HostJournal)
}

// mountNew mounts a new file system in the pod's root.
func mountNew(root *os.File, kind, at string, attributes int, options ...string) error {
	tree, err := overlay.NewFileSystem(kind, attributes, options...)
	if err != nil {
		return fmt.Errorf("the pod's %s: %w", at, err)
	}
	defer unix.Close(tree)
	target, err := overlay.Open(root, at, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		err = overlay.MoveTo(tree, target)
		target.Close()
	}
	if err != nil {
		return fmt.Errorf("the pod's %s: %w", at, err)
	}
	return nil
}

// mountNodes mounts device nodes of the host in the pod's /dev.
func mountNodes(root *os.File) error {
	for _, node := range nodes {
		if err := overlay.BindNode(unix.AT_FDCWD, node, root, node); err != nil {
			return fmt.Errorf("the pod's %s: %w", node, err)
		}
	}
	for _, node := range optional {
		if _, err := os.Stat(node); err != nil {
			continue
		}
		if err := overlay.MkdirAll(root, path.Dir(node), 0o755); err != nil {
			return fmt.Errorf("the pod's %s: %w", node, err)
		}
		if err := overlay.BindNode(unix.AT_FDCWD, node, root, node); err != nil {
			return fmt.Errorf("the pod's %s: %w", node, err)
		}
	}
	return nil
}
