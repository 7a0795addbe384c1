package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/rkt-toolkit/rkt/lib/host/seccomp"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

// closeHost keeps apps from using what is left of the host's mounts in the mount namespace that the calling
// thread has to itself, where it can't leave the host's root (see leaveHost): the systemd-nspawn of a pod that an
// older rkt prepared is the host's, and needs the host's tree. systemd moves an app's root over "/", and does not
// remove the tree below it: an app does not see these mounts, but the kernel does.
//
// From here on no mount of the host arrives there, except below the pod's own root, where volumes are. And no
// /proc or /sys there counts as fully visible (mount_too_revealing in the kernel's fs/namespace.c), which would
// let an app in a new user namespace mount one that has nothing masked. A pod with users of its own needs that
// for its own /proc; its root is nobody to the host's.
func closeHost(p *poddir.Pod, argv []string, users bool) error {
	table, err := os.Open("/proc/thread-self/mountinfo") // "self" is the process's first thread
	if err != nil {
		return err
	}
	defer table.Close()
	mounts, err := mountinfo.GetMountsFromReader(table, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", table.Name(), err)
	}
	pods := p.Path(poddir.RootDir) + "/"
	for _, m := range mounts {
		if strings.HasPrefix(m.Mountpoint, pods) {
			continue
		}
		if err := private(m.Mountpoint); err != nil {
			return err
		}
		if covered, ok := coveredDirs[m.FSType]; ok && m.Root == "/" && !users {
			if err := cover(strings.TrimSuffix(m.Mountpoint, "/") + covered); err != nil {
				return err
			}
		}
	}
	return ownDirs(p, argv)
}

// coveredDirs are directories that each file system of that type has, unless it shows less than everything, and
// that are not empty: a mount on an empty one does not count for the kernel.
var coveredDirs = map[string]string{"proc": "/sys", "sysfs": "/kernel"}

// private ends the propagation of a mount. It does not mount what an automount stands for.
func private(mountpoint string) error {
	err := unix.MountSetattr(unix.AT_FDCWD, mountpoint, unix.AT_NO_AUTOMOUNT|unix.AT_SYMLINK_NOFOLLOW,
		&unix.MountAttr{Propagation: unix.MS_PRIVATE})
	if isHidden(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: mount propagation: %w", mountpoint, err)
	}
	return nil
}

// cover mounts a directory on itself.
func cover(dir string) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_NO_AUTOMOUNT)
	if isHidden(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s on itself: %w", dir, err)
	}
	return nil
}

// isHidden reports whether no path leads to a mount any more because another one is above it. A mount on "/proc"
// covers the one below it, too.
func isHidden(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTDIR)
}

// readFilter reads the pod's seccomp filter. A pod of a version of rkt that wrote none gets the strictest. With users of
// its own it gets the one under which systemd-nspawn can make a user namespace; a pod of a version of rkt that wrote one
// filter has there the one for the users that it has.
func readFilter(p *poddir.Pod, users bool) ([]unix.SockFilter, error) {
	name := poddir.FilterFile
	if users {
		name = poddir.OwnFilter
	}
	text, err := p.ReadFile(name)
	if users && errors.Is(err, fs.ErrNotExist) {
		name = poddir.FilterFile
		text, err = p.ReadFile(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		filter, err := seccomp.Assemble(seccomp.Policy{UserNamespaces: users})
		if err != nil {
			return nil, err
		}
		text = seccomp.Marshal(filter)
	} else if err != nil {
		return nil, err
	}
	filter, err := seccomp.Unmarshal(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Path(name), err)
	}
	return filter, nil
}

// loadFilter puts the pod's seccomp filter on the calling thread.
func loadFilter(filter []unix.SockFilter) error {
	if err := leaveKeyring(); err != nil {
		return err
	}
	return seccomp.Load(filter)
}

// leaveKeyring gives the thread, and the pod, a session keyring of its own in the place of the host's, as
// systemd-nspawn does. The filter denies it that.
func leaveKeyring() error {
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	if err != nil && err != unix.ENOSYS && err != unix.EPERM && err != unix.EACCES { // this host has none
		return fmt.Errorf("session keyring: %w", err)
	}
	return nil
}
