package run

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/host/userns"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"golang.org/x/sys/unix"
)

// maxCopy is how many bytes, of all its files, a volume may have that is copied.
const maxCopy = 16 << 20

// canCopy reports whether a volume that can't be shifted may be a copy for the pod: nobody would
// see the difference. It is a file that the pod can't write to, or credentials of the unit (%d),
// which systemd keeps in a ramfs and never changes.
func canCopy(b fstab.Bind, env []string) bool {
	info, err := os.Stat(b.Source)
	if err != nil {
		return false
	}
	var st unix.Statfs_t
	readOnly := b.ReadOnly || unix.Statfs(b.Source, &st) == nil && st.Flags&unix.ST_RDONLY != 0
	if info.Mode().IsRegular() {
		return readOnly && info.Size() <= maxCopy
	}
	for _, v := range env {
		dir, ok := strings.CutPrefix(v, credentialsVariable+"=")
		if ok && dir != "" && readOnly && isBelow(path.Clean(b.Source), path.Clean(dir)) {
			return isPlain(b.Source)
		}
	}
	return false
}

// isPlain reports whether a directory has nothing but directories and files, and not too much.
func isPlain(dir string) bool {
	left := int64(maxCopy)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if left -= info.Size(); left < 0 || !info.IsDir() && !info.Mode().IsRegular() {
			return errors.ErrUnsupported
		}
		return nil
	})
	return err == nil
}

// copy returns a mount, mounted nowhere, of a tmpfs with a copy of the volume's source, read-only,
// whose files belong to the users of the pod that have the numbers of their owners. The calling
// thread has a mount namespace to itself.
func (s *shifted) copy(podDir *os.File, b fstab.Bind) (int, error) {
	attributes := unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	var st unix.Statfs_t
	if err := unix.Statfs(b.Source, &st); err != nil {
		return -1, err
	}
	if st.Flags&unix.ST_NOEXEC != 0 {
		attributes |= unix.MOUNT_ATTR_NOEXEC
	}
	options := []string{"source=tmpfs", "mode=0700", "size=" + strconv.Itoa(2*maxCopy)}
	files, err := overlay.NewFileSystem("tmpfs", attributes, append(options, overlay.Context(s.label)...)...)
	if err != nil {
		return -1, err
	}
	defer unix.Close(files)
	const name = "copy"
	// Before Linux 6.15 only a part of what is mounted somewhere can be cloned: so it is, for this
	// moment, over the pod's directory, where this thread alone sees it.
	if err := overlay.MoveTo(files, podDir); err != nil {
		return -1, err
	}
	defer unix.Unmount(fmt.Sprintf("/proc/thread-self/fd/%d", files), unix.MNT_DETACH)
	if err := s.copyTo(fmt.Sprintf("/proc/thread-self/fd/%d/%s", files, name), b.Source); err != nil {
		return -1, err
	}
	tree, err := unix.OpenTree(files, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, err
	}
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY,
		Propagation: unix.MS_PRIVATE})
	if err != nil {
		unix.Close(tree)
		return -1, err
	}
	return tree, nil
}

// copyTo makes target a copy of source, a file or a directory of such.
func (s *shifted) copyTo(target, source string) error {
	f, err := os.OpenFile(source, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		entries, err := f.ReadDir(-1)
		if err == nil {
			err = os.Mkdir(target, 0o700)
		}
		for _, e := range entries {
			if err == nil {
				err = s.copyTo(filepath.Join(target, e.Name()), filepath.Join(source, e.Name()))
			}
		}
		if err != nil {
			return err
		}
	case unix.S_IFREG:
		to, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(to, io.LimitReader(f, maxCopy))
		if err = errors.Join(err, to.Close()); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s: neither a file nor a directory", source)
	}
	if err := unix.Lchown(target, int(s.owner(st.Uid)), int(s.owner(st.Gid))); err != nil {
		return fmt.Errorf("%s: owner: %w", source, err)
	}
	if err := unix.Chmod(target, st.Mode&0o7777); err != nil {
		return fmt.Errorf("%s: mode: %w", source, err)
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, target, times, unix.AT_SYMLINK_NOFOLLOW)
}

// nobody is who owns, in a pod, what none of its users does.
const nobody = 65534

// owner is the host's number of the pod's user with the number id.
func (s *shifted) owner(id uint32) uint32 {
	if id >= userns.Count {
		id = nobody
	}
	return s.Base + id
}
