package run

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// formerDevices are the nodes of an app of a pod that an older rkt prepared, whose configuration
// has none.
var formerDevices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// devLinks are the symbolic links of an app's /dev.
var devLinks = map[string]string{
	"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	"ptmx": "pts/ptmx", "core": "/proc/kcore",
}

// showDev mounts an app's /dev in the pod's root, where the pod's systemd makes the app's /dev/log.
// A pod that an older rkt prepared has no place for it.
func showDev(p *poddir.Pod, app string, dev int) error {
	at := p.Path(poddir.RootDir + stage1.DevDir + "/" + app)
	target, err := os.OpenFile(at, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer target.Close()
	tree, err := unix.OpenTree(dev, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	defer unix.Close(tree)
	if err := overlay.MoveTo(tree, target); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return nil
}

// mountDev gives an app a /dev of its own. It is not the pod's, since an app that could change that
// would have the pod's systemd, which has more power, write where the app wants; and no device node
// that an app makes in it works, since apps keep CAP_MKNOD. Its devices are made by rkt-stage2.
//
// The units of a pod that an older rkt prepared mount a pipe at /dev/stdout and /dev/stderr, unless
// it is interactive: these are files then.
func mountDev(p *poddir.Pod, appRoot string, a *app, interactive bool, users *shifted) error {
	hasPipes := a.Prepared == nil && !interactive
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
	options := []string{"source=tmpfs", "mode=0755", "size=1m", "nr_inodes=1k", "uid=" + owner, "gid=" + owner}
	dev, err := overlay.NewFileSystem("tmpfs", unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC,
		append(options, overlay.Context(a.Final.MountLabel)...)...)
	if err != nil {
		return fmt.Errorf("%s/dev: %w", appRoot, err)
	}
	defer unix.Close(dev)
	if err := overlay.MoveTo(dev, target); err != nil {
		return fmt.Errorf("%s/dev: %w", appRoot, err)
	}
	if err := showDev(p, a.Name, dev); err != nil {
		return err
	}
	if a.Prepared == nil || !stage1.HasDevices(a.Prepared) {
		for _, name := range formerDevices {
			if err := overlay.BindNode(unix.AT_FDCWD, "/dev/"+name, root, "/dev/"+name); err != nil {
				return fmt.Errorf("%s/dev/%s: %w", appRoot, name, err)
			}
		}
	}
	for _, name := range []string{"pts", "shm", "mqueue"} {
		if err := unix.Mkdirat(dev, name, 0o755); err != nil {
			return fmt.Errorf("%s/dev/%s: %w", appRoot, name, err)
		}
	}
	for name, to := range devLinks {
		if hasPipes && (name == "stdout" || name == "stderr") {
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
