package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/host/userns"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"golang.org/x/sys/unix"
)

// mountVolumes makes the mounts of an app in its root, which is mounted already, in the order of
// the file. A link of the image or of a volume is resolved as the app would, so no mount lands
// outside of the app's root.
func mountVolumes(podDir *os.File, appRoot string, binds []fstab.Bind, users *shifted) error {
	if len(binds) == 0 {
		return nil
	}
	root, err := os.Open(appRoot)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, b := range binds {
		target, err := overlay.Open(root, b.Target, unix.O_PATH)
		if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(b.Target, "/dev/") { // which is new at each start
			if err = mountPoint(podDir, root, b); err == nil {
				target, err = overlay.Open(root, b.Target, unix.O_PATH)
			}
		}
		if errors.Is(err, os.ErrNotExist) { // rkt-prepare has made it, unless another volume covers it
			return fmt.Errorf("mount point %s: is not there, in the volume above it; make it in that volume's source",
				b.Target)
		}
		if err != nil {
			return fmt.Errorf("mount point: %w", err)
		}
		err = bind(podDir, b, target, users)
		target.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// mountPoint makes a directory, or a file for a source that is none.
func mountPoint(podDir, root *os.File, b fstab.Bind) error {
	source := b.Source
	if !filepath.IsAbs(source) {
		source = filepath.Join(podDir.Name(), source)
	}
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return overlay.MkdirAll(root, b.Target, 0o755)
	}
	return overlay.WriteFile(root, b.Target, nil, 0o644)
}

// bind clones the source's mounts, gives all of them the attributes asked for, and only then puts
// them on the opened target. What the clone shares with the host goes in one direction at most, and
// never for a read-only mount: what would arrive there later could be written to.
//
// With users, files of ID N belong to the pod's N.
func bind(podDir *os.File, b fstab.Bind, target *os.File, users *shifted) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_NO_AUTOMOUNT)
	if b.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(int(podDir.Fd()), b.Source, flags)
	if err != nil {
		return fmt.Errorf("bind mount of %s: %w", b.Source, err)
	}
	defer func() { unix.Close(tree) }()
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if b.Slave && !b.ReadOnly {
		attr.Propagation = unix.MS_SLAVE
	}
	if b.ReadOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if b.NoDev {
		attr.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	programs := strings.HasPrefix(b.Source, poddir.SystemdLink+"/")
	if programs { // it is executed wherever the data directory is
		attr.Attr_set |= unix.MOUNT_ATTR_NOSUID
		attr.Attr_clr |= unix.MOUNT_ATTR_NOEXEC
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("bind mount of %s: its attributes: %w", b.Source, err)
	}
	if users != nil && users.copies[b.Source] {
		unix.Close(tree)
		if tree, err = users.copy(podDir, b); err != nil {
			return fmt.Errorf("copy of %s: %w", b.Source, err)
		}
	} else if users != nil && (programs || filepath.IsAbs(b.Source)) { // what is the pod's is shifted already
		if err := userns.Shift(tree, users.ns); err != nil {
			return fmt.Errorf("bind mount of %s: --private-users: %w", b.Source, err)
		}
	}
	if err := overlay.MoveTo(tree, target); err != nil {
		return fmt.Errorf("bind mount of %s on %s: %w", b.Source, b.Target, err)
	}
	return nil
}
