// Package tree removes folders of any depth.
package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Remove removes whatever is at path, a folder with all that is in it. What is not there is no error, and no link is followed.
//
// An app or an archive can make a tree that is deeper than a path can tell, or a process can have files open: os.RemoveAll holds one for
// each level. Remove goes neither deep nor far: what it finds in a folder of a folder it lifts up by a rename, so it holds two, and
// when it is killed or fails all that is left is still below path. What is mounted in the tree stays, and is an error.
func Remove(path string) error {
	err := unix.Unlink(path)
	switch err {
	case nil, unix.ENOENT:
		return nil
	case unix.EISDIR, unix.EPERM: // as POSIX has it, or an immutable file
	default:
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	top, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return &fs.PathError{Op: "remove", Path: path, Err: unix.EPERM}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = (&remover{top: top}).empty()
	if err := errors.Join(err, top.Close()); err != nil {
		return err
	}
	if err := unix.Rmdir(path); err != nil && err != unix.ENOENT {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

type remover struct {
	top    *os.File
	lifted int // how many folders were lifted, for names
}

// empty removes what is in the top folder, a level in each round.
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
			err := r.remove(name)
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

// remove removes an entry of the top folder, a folder after the folders in it were lifted.
func (r *remover) remove(name string) error {
	fail := func(err error) error {
		return &fs.PathError{Op: "remove", Path: filepath.Join(r.top.Name(), name), Err: err}
	}
	top := int(r.top.Fd())
	err := unix.Unlinkat(top, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR {
		return fail(err)
	}
	// Not by openat2(2), which RestrictSUIDSGID= of rkt-gc.service forbids.
	fd, err := unix.Openat(top, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	dir := os.NewFile(uintptr(fd), filepath.Join(r.top.Name(), name))
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
		if err := r.lift(dir, below); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(top, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return fail(err)
	}
	return nil
}

// lift removes an entry of a folder, or moves it into the top folder if it is one itself.
func (r *remover) lift(dir *os.File, name string) error {
	from, top := int(dir.Fd()), int(r.top.Fd())
	err := unix.Unlinkat(from, name, 0)
	for err == unix.EISDIR {
		r.lifted++
		switch to := unix.Renameat(from, name, top, fmt.Sprintf(".lifted-%d", r.lifted)); to {
		case unix.EEXIST, unix.ENOTEMPTY, unix.ENOTDIR: // the name is taken
		case unix.EXDEV: // overlayfs renames no folder of a lower layer
			return os.RemoveAll(fmt.Sprintf("/proc/self/fd/%d/%s", from, name))
		default:
			err = to
		}
	}
	if err != nil && err != unix.ENOENT {
		return &fs.PathError{Op: "remove", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	return nil
}
