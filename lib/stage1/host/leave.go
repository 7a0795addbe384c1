package host

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/bus"
	"golang.org/x/sys/unix"
)

// hostFiles are what systemd-nspawn needs of the host, each with what it is for. What a host does
// not have is left out. docs/isolation.md has the same list.
var hostFiles = []string{
	"/proc",                  // maps of users, namespaces, OOM scores
	"/sys", "/sys/fs/cgroup", // the pod's cgroup
	"/sys/fs/selinux",                       // whether labels are used
	"/dev/full", "/dev/null", "/dev/random", // the nodes of the pod's /dev
	"/dev/tty", "/dev/urandom", "/dev/zero", "/dev/net/tun",
	bus.Socket,                     // registers the pod, and asks for its scope
	"/run/systemd/journal/dev-log", // its own messages
	"/run/systemd/journal/socket", "/run/systemd/journal/stdout",
	"/etc/os-release", "/usr/lib/os-release", // what the pod's systemd may tell of its host
}

// recursive are those of which submounts are needed as well.
var recursive = []string{"/sys/fs/cgroup"}

// treeDir is where the new root is until it is one. Nothing of systemd-nspawn's on the host is
// needed any more.
const treeDir = "/run/systemd/nspawn"

// leaveHost moves the calling thread, which has a mount namespace to itself, into a root that has
// nothing of the host but hostFiles and what argv and env name, and the pod's root at the path that
// it has on the host. systemd-nspawn up to 252 moves the pod's root over that, where who has
// CAP_SYS_ADMIN in the pod finds it.
//
// The new root is a file system in memory. systemd-nspawn keeps in it what is for nobody else while
// the pod runs: the lock of the pod's root, sockets, mount points. All that goes with the last of
// the pod's processes, even a killed one.
//
// It comes last: from then on the process finds none of the host's files.
func leaveHost(p *poddir.Pod, users bool, slaves []slave, argv, env []string) error {
	trees, err := openAll(slaves)
	defer trees.close()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(treeDir, 0o755); err != nil {
		return err
	}
	tree, err := overlay.NewFileSystem("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC,
		"source=rkt", "mode=0755")
	if err != nil {
		return fmt.Errorf("new root: %w", err)
	}
	root := os.NewFile(uintptr(tree), treeDir)
	defer root.Close()
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, treeDir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("new root on %s: %w", treeDir, err)
	}
	if err := fill(root, p, users, append(slices.Clone(hostFiles), namedFiles(argv, env)...)); err != nil {
		return err
	}
	if err := unix.Fchdir(tree); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); errors.Is(err, unix.EINVAL) { // in a chroot(2), or the kernel's own root
		if err := unix.Unmount(treeDir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("%s: unmount: %w", treeDir, err)
		}
		if err := closeHost(p, argv, users); err != nil {
			return err
		}
	} else if err != nil { // otherwise the old root is over the new one now
		return fmt.Errorf("new root: pivot_root: %w", err)
	} else if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount of the host's root: %w", err)
	}
	if err := trees.mount(slaves); err != nil {
		return err
	}
	return unix.Chdir(p.Dir())
}

// fill puts into the new root what is to be there.
func fill(root *os.File, p *poddir.Pod, users bool, files []string) error {
	for _, file := range files {
		err := keep(root, file, slices.Contains(recursive, file))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if !users {
		for _, dir := range []string{"/proc" + coveredDirs["proc"], "/sys" + coveredDirs["sysfs"]} {
			if err := cover(treeDir + dir); err != nil {
				return err
			}
		}
	}
	if err := keep(root, p.Path(poddir.RootDir), true); err != nil {
		return fmt.Errorf("%s: %w", p.Path(poddir.RootDir), err)
	}
	for _, dir := range []string{"/tmp", treeDir} {
		if err := overlay.MkdirAll(root, dir, 0o755); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

// keep mounts a file or directory of the host in the new root at the path that it has. Mounts below
// it stay, where they can't be told apart from it: in a container, whose init hides parts of /proc
// so.
func keep(root *os.File, file string, submounts bool) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_NO_AUTOMOUNT)
	if submounts {
		flags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, file, flags)
	if errors.Is(err, unix.EINVAL) && !submounts {
		tree, err = unix.OpenTree(unix.AT_FDCWD, file, flags|unix.AT_RECURSIVE)
	}
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	target, err := overlay.MountPoint(root, file, tree)
	if err != nil {
		return err
	}
	defer target.Close()
	return overlay.MoveTo(tree, target)
}

// namedFiles are the files of the host that systemd-nspawn is told of: what it mounts in the pod,
// and the socket that it says READY=1 to.
func namedFiles(argv, env []string) (files []string) {
	for _, arg := range argv {
		for _, option := range []string{"--bind=", "--bind-ro="} {
			if value, ok := strings.CutPrefix(arg, option); ok && !strings.HasPrefix(value, slavesDir) {
				source, _, _ := strings.Cut(value, ":")
				files = append(files, source)
			}
		}
	}
	for _, v := range env {
		if socket, ok := strings.CutPrefix(v, "NOTIFY_SOCKET=/"); ok {
			files = append(files, "/"+socket)
		}
	}
	return slices.DeleteFunc(files, func(f string) bool { return slices.Contains(hostFiles, f) })
}
