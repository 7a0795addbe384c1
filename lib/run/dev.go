package run

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/rkt-toolkit/rkt/lib/overlay"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// devices are the nodes that every app has (appc's ace.md, "Filesystem Setup"); /dev/console, pts, shm and mqueue are the pod's and come
// from its systemd.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// devLinks are the symbolic links of an app's /dev.
var devLinks = map[string]string{
	"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx", "core": "/proc/kcore",
}

// mountDev gives an app a /dev of its own. It is not the pod's, since an app that could change that would have the pod's systemd, which
// has more power, write where the app wants; and no device node that an app makes in it works, since apps keep CAP_MKNOD.
//
// Standard output and error of an app that is not interactive are no terminal, and its /dev/stdout and /dev/stderr are where the pod's
// systemd mounts a pipe.
func mountDev(appRoot string, interactive bool, users *shifted) error {
	root, err := os.Open(appRoot)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := overlay.MkdirAll(root, "/dev", 0o755); err != nil { // of an image that may have a link there
		return err
	}
	target, err := overlay.Open(root, "/dev", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer target.Close()
	owner := "0"
	if users != nil {
		owner = strconv.FormatUint(uint64(users.Base), 10)
	}
	dev, err := tmpfs(int(target.Fd()), owner)
	if err != nil {
		return fmt.Errorf("%s/dev: %w", appRoot, err)
	}
	defer unix.Close(dev)
	for _, name := range devices {
		fd, err := unix.Openat(dev, name, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return fmt.Errorf("%s/dev/%s: %w", appRoot, name, err)
		}
		unix.Close(fd)
		node, err := unix.OpenTree(unix.AT_FDCWD, "/dev/"+name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err == nil { // read-only is the node, whose mode and owner are the host's, not the device
			err = unix.MountSetattr(node, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
				Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC,
			})
		}
		if err == nil {
			err = unix.MoveMount(node, "", dev, name, unix.MOVE_MOUNT_F_EMPTY_PATH)
			unix.Close(node)
		}
		if err != nil {
			return fmt.Errorf("%s/dev/%s: %w", appRoot, name, err)
		}
	}
	for _, name := range []string{"pts", "shm", "mqueue"} {
		if err := unix.Mkdirat(dev, name, 0o755); err != nil {
			return fmt.Errorf("%s/dev/%s: %w", appRoot, name, err)
		}
	}
	for name, to := range devLinks {
		if !interactive && slices.Contains(stage1.StandardFiles, "/dev/"+name) {
			fd, err := unix.Openat(dev, name, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
			if err != nil {
				return fmt.Errorf("%s/dev/%s: %w", appRoot, name, err)
			}
			unix.Close(fd)
			continue
		}
		if err := unix.Symlinkat(to, dev, name); err != nil {
			return fmt.Errorf("%s/dev/%s: %w", appRoot, name, err)
		}
	}
	return nil
}

// tmpfs mounts a small one of that owner on the opened folder and returns its root. Nothing in it can be executed, be setuid, or be a device.
func tmpfs(target int, owner string) (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for _, option := range [][2]string{{"source", "tmpfs"}, {"mode", "0755"}, {"size", "1m"}, {"nr_inodes", "1k"}, {"uid", owner}, {"gid", owner}} {
		if err := unix.FsconfigSetString(fs, option[0], option[1]); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, err
	}
	if err := unix.MoveMount(mount, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		unix.Close(mount)
		return -1, err
	}
	return mount, nil
}
