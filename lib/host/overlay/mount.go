package overlay

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// NewFileSystem returns the root of a new file system of that kind, as mount(8) names it, with
// attributes of the mount (MOUNT_ATTR_…, fsmount(2)) and options NAME=VALUE. It is mounted nowhere.
func NewFileSystem(kind string, attributes int, options ...string) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		if err := unix.FsconfigSetString(fs, name, value); err != nil {
			return -1, fmt.Errorf("%s: option %s: %w", kind, option, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
}

// Context is the option of NewFileSystem by which all files have an SELinux context; none for "".
func Context(label string) []string {
	if label == "" {
		return nil
	}
	return []string{"context=" + label}
}

// MoveTo mounts a tree, which is mounted nowhere, on an opened target.
func MoveTo(tree int, target *os.File) error {
	return unix.MoveMount(tree, "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// ReadOnly makes all that is at an opened path and below it read-only, by a copy of its mounts over
// them.
func ReadOnly(target *os.File) error {
	tree, err := unix.OpenTree(int(target.Fd()), "",
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attributes); err != nil {
		return err
	}
	return MoveTo(tree, target)
}

// Pivot makes the working directory, which is the root of a mount, the root of the mount namespace,
// and takes the old root away. It is EINVAL in a chroot and on the kernel's own root.
func Pivot() error {
	if err := unix.PivotRoot(".", "."); err != nil { // puts the old root over the new one
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount of the old root: %w", err)
	}
	return unix.Chdir("/")
}

// MountPoint opens the mount point for a tree, as an app sees the path, and makes it before if it
// is not there: a directory or a file, as the tree is one.
func MountPoint(root *os.File, name string, tree int) (*os.File, error) {
	target, err := Open(root, name, unix.O_PATH)
	if !errors.Is(err, os.ErrNotExist) {
		return target, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = MkdirAll(root, name, 0o755)
	} else if err = MkdirAll(root, path.Dir(name), 0o755); err == nil {
		err = WriteFile(root, name, nil, 0o644)
	}
	if err != nil {
		return nil, err
	}
	return Open(root, name, unix.O_PATH)
}

// BindNode mounts a device node, a path relative to the opened directory dir, where an app sees
// name. The node is read-only, so that its mode and owner stay, and not the device.
func BindNode(dir int, node string, root *os.File, name string) error {
	tree, err := unix.OpenTree(dir, node, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC,
	})
	if err != nil {
		return err
	}
	target, err := MountPoint(root, name, tree)
	if err != nil {
		return err
	}
	defer target.Close()
	return MoveTo(tree, target)
}
