package app

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"golang.org/x/sys/unix"
)

// nodeTypes are the kinds of nodes in linux.devices (runtime-spec, config-linux.md, "Devices"), as
// mknod(2) has them.
var nodeTypes = map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}

// makeDevices gives the app its device nodes, each a mount of its own: /dev is mounted nodev, since
// apps keep CAP_MKNOD, and no node that an app makes there works. The pod's own node is mounted if
// there is one of the same path that is right, and else a new one, which takes CAP_MKNOD on the
// host, and so a pod without a user namespace of its own.
func makeDevices(root *os.File, config *specs.Spec) error {
	made := -1
	defer func() {
		if made >= 0 {
			unix.Close(made)
		}
	}()
	for i, d := range config.Linux.Devices {
		if st, err := overlay.Stat(root, d.Path); err == nil && isNode(&st, d) { // a volume
			continue
		}
		dir, node := unix.AT_FDCWD, d.Path
		var st unix.Stat_t
		err := unix.Lstat(d.Path, &st)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return fmt.Errorf("device %s: %w", d.Path, err)
		}
		if err != nil || !isNode(&st, d) {
			if made < 0 {
				if made, err = newNodes(config); err != nil {
					return fmt.Errorf("device %s: %w", d.Path, err)
				}
			}
			dir, node = made, strconv.Itoa(i)
			if err := makeNode(made, node, d); err != nil {
				return fmt.Errorf("device %s (%s %d:%d): %w", d.Path, d.Type, d.Major, d.Minor, err)
			}
		}
		if err := overlay.BindNode(dir, node, root, d.Path); err != nil {
			return fmt.Errorf("device %s: %w", d.Path, err)
		}
	}
	return nil
}

// isNode reports whether a file is the device.
func isNode(st *unix.Stat_t, d specs.LinuxDevice) bool {
	switch {
	case st.Mode&unix.S_IFMT != nodeTypes[d.Type],
		d.Type != "p" && st.Rdev != number(d),
		d.FileMode != nil && st.Mode&0o7777 != uint32(*d.FileMode)&0o7777,
		d.UID != nil && st.Uid != *d.UID,
		d.GID != nil && st.Gid != *d.GID:
		return false
	}
	return true
}

func number(d specs.LinuxDevice) uint64 { return unix.Mkdev(uint32(d.Major), uint32(d.Minor)) }

// newNodes returns the root of a new file system in which device nodes work. Nobody gets there but
// by a mount of a node.
func newNodes(config *specs.Spec) (int, error) {
	nodes, err := overlay.NewFileSystem("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC,
		labelled(config, "source=devices", "mode=0000", "size=4k")...)
	if err != nil {
		return -1, err
	}
	if err := park(nodes); err != nil {
		unix.Close(nodes)
		return -1, err
	}
	return nodes, nil
}

// defaultNodeMode is the mode of a node for which none is said.
const defaultNodeMode = 0o666

// makeNode makes a device node; the umask has no part in its mode.
func makeNode(dir int, name string, d specs.LinuxDevice) error {
	mode, uid, gid := uint32(defaultNodeMode), 0, 0
	if d.FileMode != nil {
		mode = uint32(*d.FileMode) & 0o7777
	}
	if d.UID != nil {
		uid = int(*d.UID)
	}
	if d.GID != nil {
		gid = int(*d.GID)
	}
	if err := unix.Mknodat(dir, name, nodeTypes[d.Type]|mode, int(number(d))); err != nil {
		return err
	}
	if err := unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.Fchmodat(dir, name, mode, 0)
}
