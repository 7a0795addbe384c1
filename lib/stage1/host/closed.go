package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

// closeHost keeps apps from using what is left of the host's mounts in the mount namespace that the
// calling thread has to itself, where it can't leave the host's root (see leaveHost): the
// systemd-nspawn of a pod that an older rkt prepared is the host's, and needs the host's tree.
// systemd moves an app's root over "/", and does not remove the tree below it: an app does not see
// these mounts, but the kernel does.
//
// From here on no mount of the host arrives there, except below the pod's own root, where volumes
// are. And no /proc or /sys there counts as fully visible (mount_too_revealing in the kernel's
// fs/namespace.c), which would let an app in a new user namespace mount one that has nothing
// masked. A pod with users of its own needs that for its own /proc; its root is nobody to the
// host's.
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

// coveredDirs are directories that each file system of that type has, unless it shows less than
// everything, and that are not empty: a mount on an empty one does not count for the kernel.
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
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|
		unix.AT_NO_AUTOMOUNT)
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

// isHidden reports whether no path leads to a mount any more because another one is above it. A
// mount on "/proc" covers the one below it, too.
func isHidden(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTDIR)
}

// ownDirs gives systemd-nspawn directories of its own for what it keeps while the pod runs, which
// is for nobody else: the lock of the pod's root, whose pod has one; mounts on their way into the
// pod, which nothing of the host's can reach; sockets of the pod's, and mount points. They go with
// the last of the pod's processes. On the host they would stay after a kill, and systemd-nspawn
// removes nothing from a /run that is not a tmpfs.
//
// Where argv or the pod's directory name something below /tmp, that stays visible.
func ownDirs(p *poddir.Pod, argv []string) error {
	dirs := []string{"/run/systemd/nspawn"}
	if !namesBelow("/tmp", append(slices.Clone(argv), p.Dir())) {
		dirs = append(dirs, "/tmp")
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("tmpfs on %s: %w", dir, err)
		}
	}
	return nil
}

// namesBelow reports whether one of words is a path below dir, or has one after "=" or ":".
func namesBelow(dir string, words []string) bool {
	return slices.ContainsFunc(words, func(word string) bool {
		return slices.ContainsFunc(strings.FieldsFunc(word, func(r rune) bool { return r == '=' || r == ':' }),
			func(path string) bool {
				return strings.HasPrefix(filepath.Clean(path), dir+"/")
			})
	})
}
