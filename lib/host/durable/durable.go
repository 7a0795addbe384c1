// Package durable is the one way in which the toolkit writes a file that must last, and takes a
// lock that others see.
package durable

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another process holds a lock.
var ErrLocked = errors.New("locked by another process")

// WriteFile writes a file that is there whole or not at all, also after a loss of power; see
// Create.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return write(path, data, perm, func(f *File) error { return f.Place(true) })
}

// WriteForNow is WriteFile for what is of no use after the next boot: readers see it whole or not
// at all, but it waits for no disk, and a loss of power may leave it empty or with zeros for its
// content, see Lost.
func WriteForNow(path string, data []byte, perm fs.FileMode) error {
	return write(path, data, perm, func(f *File) error { return f.failed(f.place(true)) })
}

// Lost reports whether a file has no content, or only that which a loss of power has left of it.
func Lost(data []byte) bool { return len(bytes.TrimLeft(data, "\x00")) == 0 }

func write(path string, data []byte, perm fs.FileMode, place func(*File) error) error {
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return place(f)
}

// File is a file that is not at its path before Place.
type File struct {
	*os.File
	path, tmp string
	hasTmp    bool // it is at tmp
}

// Create makes a file that Place will put at path. Where the file system can have files without a
// name (open(2), O_TMPFILE), nothing is left of one whose writer is killed; elsewhere it has a name
// that follows from path, and the next one for path replaces it.
func Create(path string, perm fs.FileMode) (*File, error) {
	dir, base := filepath.Split(path)
	digest := sha256.Sum256([]byte(base))
	f := &File{path: path, tmp: fmt.Sprintf("%s.rkt-%x", dir, digest[:8])}
	var err error
	f.File, err = os.OpenFile(filepath.Clean(dir), unix.O_TMPFILE|os.O_WRONLY, perm)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		err = f.takeTmp(func() (err error) {
			f.File, err = os.OpenFile(f.tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
			return err
		})
	}
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) // by which takeTmp of others knows that it is alive
	}
	if err == nil {
		err = f.Chmod(perm) // whatever the umask is
	}
	if err != nil {
		if f.File != nil {
			f.Close()
		}
		return nil, f.failed(err)
	}
	return f, nil
}

// Place makes the file last and gives it its name. What has the name already is replaced, or it is
// an error that wraps fs.ErrExist.
func (f *File) Place(replace bool) error {
	info, err := f.Stat()
	if err == nil && info.Size() > 0 { // an empty one has nothing but its name, which lasts with the directory
		err = f.Sync()
	}
	if err == nil {
		err = f.place(replace)
	}
	if err != nil {
		return f.failed(err)
	}
	return SyncDir(filepath.Dir(f.path))
}

// failed is the error of a file that could not be made, with the name that it was to have; nil for
// none.
func (f *File) failed(err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: "create", Path: f.path, Err: cause(err)}
}

func (f *File) place(replace bool) error {
	if !replace && !f.hasTmp {
		return f.link(f.path)
	}
	if !f.hasTmp { // linkat(2) replaces nothing
		if err := f.takeTmp(func() error { return f.link(f.tmp) }); err != nil {
			return err
		}
	}
	flags := uint(unix.RENAME_NOREPLACE)
	if replace {
		flags = 0
	}
	err := unix.Renameat2(unix.AT_FDCWD, f.tmp, unix.AT_FDCWD, f.path, flags)
	if err == nil {
		f.hasTmp = false
	}
	return err
}

// takeTmp has the file made at tmp. It waits for another program that writes to the same path, and
// removes what a killed one has left.
func (f *File) takeTmp(make func() error) error {
	for {
		if err := make(); !errors.Is(err, fs.ErrExist) {
			f.hasTmp = err == nil
			return err
		}
		lock, err := Lock(f.tmp, 10*time.Second)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		var held, named unix.Stat_t
		err = errors.Join(unix.Fstat(int(lock.Fd()), &held), unix.Lstat(f.tmp, &named))
		if err == nil && held.Ino == named.Ino {
			err = os.Remove(f.tmp)
		}
		lock.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

func (f *File) link(path string) error {
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, path,
		unix.AT_SYMLINK_FOLLOW)
}

// Close closes the file. It is gone if it was not placed.
func (f *File) Close() error {
	if f.hasTmp {
		os.Remove(f.tmp)
	}
	return f.File.Close()
}

// cause is an error without the name of a file that the caller does not know.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// SyncDir makes the names in a directory last.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// SyncTree fsyncs every file and directory of a small tree, and dirs, one of which must be root's
// parent if root's name is to last. It does so for all at once, so that a journalling file system
// commits them together. Symbolic links last with the directory that holds them.
func SyncTree(root string, dirs ...string) error {
	paths := slices.Clone(dirs)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (d.IsDir() || d.Type().IsRegular()) {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	errs := make(chan error, len(paths))
	for _, path := range paths {
		go func() { errs <- SyncDir(path) }() // fsync(2) is the same for a file
	}
	var all []error
	for range paths {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// Lock takes an exclusive flock(2) on the file or directory at path and returns its descriptor;
// closing it, or the end of the last process that has it, lets go. The descriptor is close-on-exec.
// A reader that only looks (see Locked) holds the lock for microseconds, so Lock tries for up to
// wait before it returns ErrLocked.
func Lock(path string, wait time.Duration) (*os.File, error) {
	return lock(path, unix.LOCK_EX, wait)
}

// Share takes a shared lock on the file or directory at path, waiting as long as somebody holds the
// exclusive one.
func Share(path string) (*os.File, error) {
	return lock(path, unix.LOCK_SH, -1)
}

// Locked reports whether some process holds the exclusive lock on path.
func Locked(path string) (bool, error) {
	f, err := lock(path, unix.LOCK_SH, 0)
	if errors.Is(err, ErrLocked) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, f.Close()
}

// WaitUnlocked blocks until nobody holds the exclusive lock on path.
func WaitUnlocked(path string) error {
	f, err := Share(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// queueing is the wait from which on lock has the kernel queue the process: many programs that wait
// for one lock get it in turn then, and do not ask all the time.
const queueing = time.Second

// lock tries until wait has passed; a negative wait is for ever.
func lock(path string, how int, wait time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if wait >= queueing {
		return queue(f, how, wait)
	}
	if wait >= 0 {
		how |= unix.LOCK_NB
	}
	for end := time.Now().Add(wait); ; time.Sleep(time.Millisecond) {
		switch err = unix.Flock(int(f.Fd()), how); {
		case err == nil:
			return f, nil
		case err == unix.EINTR:
		case err == unix.EWOULDBLOCK && time.Now().Before(end):
		case err == unix.EWOULDBLOCK:
			f.Close()
			return nil, fmt.Errorf("%s: %w", path, ErrLocked)
		default:
			f.Close()
			return nil, fmt.Errorf("%s: flock: %w", path, err)
		}
	}
}

// queue waits in the kernel's queue of those who want the lock.
func queue(f *os.File, how int, wait time.Duration) (*os.File, error) {
	got := make(chan error, 1)
	go func() {
		for {
			if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
				got <- err
				return
			}
		}
	}()
	select {
	case err := <-got:
		if err == nil {
			return f, nil
		}
		f.Close()
		return nil, fmt.Errorf("%s: flock: %w", f.Name(), err)
	case <-time.After(wait):
		go func() { // the system call goes on
			<-got
			f.Close()
		}()
		return nil, fmt.Errorf("%s: %w", f.Name(), ErrLocked)
	}
}
