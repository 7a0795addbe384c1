package app

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"golang.org/x/sys/unix"
)

// enterRoot builds the app's root in a new mount namespace and moves the calling thread into it.
// Nothing else of the pod, and of the host, is in that namespace then: what lies under the root is
// not covered but gone.
//
// Links of the image are resolved as the app would, so nothing is mounted outside of the root.
func enterRoot(config *specs.Spec) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new mount namespace: %w", err)
	}
	// From the pod to the app mounts still arrive, below volumes that are to have them.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("mount propagation of /: %w", err)
	}
	fd, err := clone(unix.AT_FDCWD, config.Root.Path, true)
	if err != nil {
		return fmt.Errorf("root %s: %w", config.Root.Path, err)
	}
	root := os.NewFile(uintptr(fd), config.Root.Path)
	defer root.Close()
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, config.Root.Path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("root %s: mount: %w", config.Root.Path, err)
	}
	if err := mountAll(root, config); err != nil {
		return err
	}
	if err := makeDevices(root, config); err != nil {
		return err
	}
	if err := protect(root, config); err != nil {
		return err
	}
	if err := leavePod(fd); err != nil {
		return fmt.Errorf("root %s: %w", config.Root.Path, err)
	}
	return nil
}

// leavePod makes a mount of the pod's root the root of the calling thread, and takes away the pod's
// root and what lies under that: flavor host may have left there the root that it was started in.
// Under the app's root there is then the kernel's own only, which is empty once a host has
// booted (ramfs-rootfs-initramfs in the kernel's documentation).
//
// In a pod with users of its own the kernel has locked the mounts together. Nobody in the pod can
// take them apart.
func leavePod(root int) error {
	namespace, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(namespace)
	tree, err := clone(root, "", true)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := unix.Unmount("/", unix.MNT_DETACH); errors.Is(err, unix.EINVAL) {
		return pivot(root)
	} else if err != nil {
		return fmt.Errorf("unmount of the pod's root: %w", err)
	}
	// Whoever enters a mount namespace has the topmost mount of its root for its own.
	if err := unix.Setns(namespace, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("what is under the pod's root: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount propagation under the pod's root: %w", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, "/proc", unix.MOVE_MOUNT_F_EMPTY_PATH); err == nil {
		if err = pivot(tree); !errors.Is(err, unix.EINVAL) { // the kernel's root has no mount under it
			return err
		}
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount on /: %w", err)
	}
	if err := unix.Fchdir(tree); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// pivot puts an opened mount in the place of the root, and takes the root away.
func pivot(root int) error {
	if err := unix.Fchdir(root); err != nil {
		return err
	}
	return overlay.Pivot()
}

// clone returns a copy of the mount at a path below an opened directory, or with no path of that of
// an opened file, and of the mounts below it if it is recursive. It is mounted nowhere.
func clone(dir int, path string, recursive bool) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_NO_AUTOMOUNT)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return unix.OpenTree(dir, path, flags)
}

// labelled are options of a new file system, whose files have the SELinux context that the
// configuration has for them.
func labelled(config *specs.Spec, options ...string) []string {
	return append(options, overlay.Context(config.Linux.MountLabel)...)
}

// nofail is the option of a mount that is not made if the app's root has no place for it, or a
// volume is there.
const nofail = "nofail"

// options are what may stand in a mount's options, as mount(8) writes them.
var options = map[string]unix.MountAttr{
	"bind": {}, "rbind": {}, "rw": {},
	"ro": {Attr_set: unix.MOUNT_ATTR_RDONLY}, "nosuid": {Attr_set: unix.MOUNT_ATTR_NOSUID},
	"nodev": {Attr_set: unix.MOUNT_ATTR_NODEV}, "noexec": {Attr_set: unix.MOUNT_ATTR_NOEXEC},
	"suid": {}, "exec": {},
	nofail:    {}, // see mountOrSkip
	"private": {Propagation: unix.MS_PRIVATE}, "slave": {Propagation: unix.MS_SLAVE},
}

// mountAll makes the mounts of the configuration, in their order. What they are of is cloned before
// the first is made, since some are of what another one covers: volumes below /sys.
func mountAll(root *os.File, config *specs.Spec) error {
	trees := make([]int, 0, len(config.Mounts))
	defer func() {
		for _, tree := range trees {
			unix.Close(tree)
		}
	}()
	for _, m := range config.Mounts {
		tree, err := source(root, config, m)
		if err != nil {
			return fmt.Errorf("mount on %s: %w", m.Destination, err)
		}
		trees = append(trees, tree)
	}
	rootID, err := mountID(int(root.Fd()))
	if err != nil {
		return err
	}
	own := []uint64{rootID} // of file systems of the app's, in which mount points may be made
	for i, m := range config.Mounts {
		if slices.Contains(m.Options, nofail) {
			mountOrSkip(root, m, trees[i], own)
			continue
		}
		if err := mount(root, m, trees[i]); err != nil {
			return fmt.Errorf("mount on %s: %w", m.Destination, err)
		}
		if m.Type == "tmpfs" {
			id, err := mountID(trees[i])
			if err != nil {
				return err
			}
			own = append(own, id)
		}
	}
	return nil
}

// mountOrSkip makes a mount that the app can do without. It makes none in a volume, where even the
// mount point would be the host's, and it is no fault if the image has something else where a
// directory would be.
func mountOrSkip(root *os.File, m specs.Mount, tree int, own []uint64) {
	for dir := path.Dir(m.Destination); ; dir = path.Dir(dir) {
		f, err := overlay.Open(root, dir, unix.O_PATH|unix.O_DIRECTORY)
		if errors.Is(err, os.ErrNotExist) && dir != "/" {
			continue
		}
		if err != nil {
			return
		}
		id, err := mountID(int(f.Fd()))
		f.Close()
		if err != nil || !slices.Contains(own, id) {
			return
		}
		break
	}
	mount(root, m, tree)
}

// mountID is the number of the mount that an opened file is in.
func mountID(fd int) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0, fmt.Errorf("number of a mount: %w", err)
	}
	return st.Mnt_id, nil
}

// source returns what is to be mounted: a copy of a mount of the pod, or the /proc of the process's
// PID namespace. A path below the app's root is resolved inside of it.
func source(root *os.File, config *specs.Spec, m specs.Mount) (tree int, err error) {
	if m.Type != "bind" && m.Type != "proc" && m.Type != "tmpfs" || m.UIDMappings != nil || m.GIDMappings != nil {
		return -1, fmt.Errorf("type %q is not one of: a simple bind mount, proc and tmpfs", m.Type)
	}
	attributes, recursive, own := unix.MountAttr{}, false, []string{"source=" + m.Source}
	for _, o := range m.Options {
		if m.Type == "tmpfs" && strings.Contains(o, "=") {
			own = append(own, o)
			continue
		}
		a, ok := options[o]
		if !ok {
			return -1, fmt.Errorf("option %q: unknown", o)
		}
		recursive = recursive || o == "rbind"
		attributes.Attr_set |= a.Attr_set
		attributes.Propagation |= a.Propagation
	}
	inside, isInside := strings.CutPrefix(m.Source, config.Root.Path+"/")
	switch {
	case m.Type == "proc":
		tree, err = overlay.NewFileSystem("proc", 0) // of the process's PID namespace
	case m.Type == "tmpfs":
		tree, err = overlay.NewFileSystem("tmpfs", 0, labelled(config, own...)...)
	case isInside:
		var f *os.File
		if f, err = overlay.Open(root, inside, unix.O_PATH); err == nil {
			tree, err = clone(int(f.Fd()), "", recursive)
			f.Close()
		}
	default:
		tree, err = clone(unix.AT_FDCWD, m.Source, recursive)
	}
	if err != nil {
		return -1, fmt.Errorf("%s: %w", m.Source, err)
	}
	if attributes != (unix.MountAttr{}) {
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attributes); err != nil {
			unix.Close(tree)
			return -1, fmt.Errorf("%s: its attributes: %w", m.Source, err)
		}
	}
	return tree, nil
}

// mount puts a tree into the root. Its mount point is made if it is not there.
func mount(root *os.File, m specs.Mount, tree int) error {
	target, err := overlay.MountPoint(root, m.Destination, tree)
	if err != nil {
		return err
	}
	defer target.Close()
	return overlay.MoveTo(tree, target)
}

// protect hides paths and takes the right to write away, as the configuration says. What is not
// there needs neither.
func protect(root *os.File, config *specs.Spec) error {
	for _, path := range config.Linux.ReadonlyPaths {
		if err := readOnly(root, path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read-only %s: %w", path, err)
		}
	}
	if err := mask(root, config); err != nil {
		return err
	}
	if !config.Root.Readonly {
		return nil
	}
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(int(root.Fd()), "", unix.AT_EMPTY_PATH, &attributes); err != nil {
		return fmt.Errorf("read-only root: %w", err)
	}
	return nil
}

// readOnly makes all that is at a path and below it read-only.
func readOnly(root *os.File, path string) error {
	target, err := overlay.Open(root, path, unix.O_PATH)
	if err != nil {
		return err
	}
	defer target.Close()
	return overlay.ReadOnly(target)
}

// mask hides each path: a directory under an empty one, anything else under an empty file. Neither
// can be written to.
func mask(root *os.File, config *specs.Spec) error {
	paths := config.Linux.MaskedPaths
	if len(paths) == 0 {
		return nil
	}
	masks, err := newMasks(config)
	if err != nil {
		return fmt.Errorf("masks: %w", err)
	}
	defer unix.Close(masks)
	for _, path := range paths {
		target, err := overlay.Open(root, path, unix.O_PATH)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = cover(target, masks)
			target.Close()
		}
		if err != nil {
			return fmt.Errorf("mask of %s: %w", path, err)
		}
	}
	return nil
}

// cover hides an opened path.
func cover(target *os.File, masks int) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(target.Fd()), &st); err != nil {
		return err
	}
	name := emptyFile
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		name = emptyDirectory
	}
	tree, err := unix.OpenTree(masks, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return overlay.MoveTo(tree, target)
}

// What is in the file system that newMasks makes.
const emptyDirectory, emptyFile = "directory", "file"

// parkDir is a directory of the pod's root.
const parkDir = "/rkt"

// park mounts what is to be cloned in the pod's root, until the thread has left that: before Linux
// 6.15 only a mount that is somewhere can be cloned. Nothing of the pod's in parkDir is needed any
// more.
func park(tree int) error {
	return unix.MoveMount(tree, "", unix.AT_FDCWD, parkDir, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// newMasks returns the root of a new read-only file system that has an empty directory and an empty
// file.
func newMasks(config *specs.Spec) (int, error) {
	masks, err := overlay.NewFileSystem("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC,
		labelled(config, "source=masked", "mode=0000", "size=4k", "nr_inodes=3")...)
	if err != nil {
		return -1, err
	}
	err = unix.Mkdirat(masks, emptyDirectory, 0)
	if err == nil {
		err = unix.Mknodat(masks, emptyFile, unix.S_IFREG, 0)
	}
	if err == nil {
		err = unix.MountSetattr(masks, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
	if err == nil {
		err = park(masks)
	}
	if err != nil {
		unix.Close(masks)
		return -1, err
	}
	return masks, nil
}
