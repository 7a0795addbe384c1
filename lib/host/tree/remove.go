// Package tree removes directories of any depth.
package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Remove removes whatever is at path, a directory with all that is in it. What is not there is no
// error, and no link is followed.
//
// An app or an archive can make a tree that is deeper than a path can tell, or a process can have
// files open: os.RemoveAll holds one for each level. Remove goes down a few levels only, and lifts
// what is deeper up to the top by a rename; when it is killed or fails all that is left is still
// below path. What is mounted in the tree stays, and is an error.
func Remove(path string) error {
	_, err := RemoveCounted(path)
	return err
}

// RemoveCounted is Remove, and returns how many bytes of the disk are free then, of files that have
// no other name.
func RemoveCounted(path string) (freed int64, err error) {
	freed = ownBytes(unix.AT_FDCWD, path)
	switch err := unix.Unlink(path); err {
	case nil, unix.ENOENT:
		return freed, nil
	case unix.EISDIR, unix.EPERM: // as POSIX has it, or an immutable file
	default:
		return 0, &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	top, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return 0, &fs.PathError{Op: "remove", Path: path, Err: unix.EPERM}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	r := &remover{top: top}
	err = r.empty()
	if err := errors.Join(err, top.Close()); err != nil {
		return r.freed, err
	}
	if err := unix.Rmdir(path); err != nil && err != unix.ENOENT {
		return r.freed, &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return r.freed, nil
}

// ownBytes is how much a file takes that has no other name; 0 for a directory.
func ownBytes(at int, name string) int64 {
	var st unix.Stat_t
	err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Nlink > 1 {
		return 0
	}
	return st.Blocks * 512
}

// levels is how deep Remove goes, and so how many directories it holds open: deeper than a pod of
// its own is.
const levels = 12

type remover struct {
	top    *os.File
	lifted int // how many directories were lifted, for names
	freed  int64
}

// empty removes what is in the top directory, and what is lifted into it meanwhile.
func (r *remover) empty() error {
	for {
		names, err := r.top.Readdirnames(-1)
		if err == nil {
			_, err = r.top.Seek(0, 0)
		}
		if err != nil || len(names) == 0 {
			return err
		}
		progress := false
		var errs []error
		for _, name := range names {
			err := r.remove(r.top, name, 1)
			progress = progress || err == nil
			if err != nil && len(errs) < 10 {
				errs = append(errs, err)
			}
		}
		if !progress {
			return errors.Join(errs...)
		}
	}
}

// remove removes an entry of a directory that is some levels below the top, or lifts it.
func (r *remover) remove(in *os.File, name string, level int) error {
	fail := func(err error) error {
		return &fs.PathError{Op: "remove", Path: filepath.Join(in.Name(), name), Err: err}
	}
	at := int(in.Fd())
	size := ownBytes(at, name)
	err := unix.Unlinkat(at, name, 0)
	if err == nil || err == unix.ENOENT {
		r.freed += size
		return nil
	}
	if err != unix.EISDIR {
		return fail(err)
	}
	if unix.Unlinkat(at, name, unix.AT_REMOVEDIR) == nil { // most directories of a pod are empty
		return nil
	}
	if level > levels {
		if err := r.lift(at, name); err != nil {
			return fail(err)
		}
		return nil
	}
	// Not by openat2(2), which RestrictSUIDSGID= of rkt-gc.service forbids.
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	dir := os.NewFile(uintptr(fd), filepath.Join(in.Name(), name))
	defer dir.Close()
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, 0, &st); err != nil {
		return fail(err)
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return fail(errors.New("something is mounted there"))
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, below := range names {
		if err := r.remove(dir, below, level+1); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(at, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return fail(err)
	}
	return nil
}

// lift moves a directory into the top directory.
func (r *remover) lift(from int, name string) error {
	for {
		r.lifted++
		switch err := unix.Renameat(from, name, int(r.top.Fd()), fmt.Sprintf(".lifted-%d", r.lifted)); err {
		case nil, unix.ENOENT:
			return nil
		case unix.EEXIST, unix.ENOTEMPTY, unix.ENOTDIR: // the name is taken
		case unix.EXDEV: // overlayfs renames no directory of a lower layer
			return os.RemoveAll(fmt.Sprintf("/proc/self/fd/%d/%s", from, name))
		default:
			return err
		}
	}
}
