// Package durable is the one way in which the toolkit writes a file that must last, and takes a lock that others see.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// ErrLocked says that another process holds a lock.
var ErrLocked = errors.New("locked by another process")

// WriteFile writes a file that is there whole or not at all, also after a loss of power: temporary name, sync, rename,
// sync of the folder.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	if err := renameio.WriteFile(path, data, perm, renameio.WithTempDir(filepath.Dir(path)), renameio.IgnoreUmask()); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a folder last.
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

// SyncTree makes a small tree last: every file and folder in it. The syncs run at once, so that a journalling file system
// commits them together. Symbolic links last with the folder that holds them.
func SyncTree(root string) error {
	var paths []string
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

// Lock takes an exclusive flock(2) on the file or folder at path and returns its descriptor; closing it, or the end of the
// last process that has it, lets go. The descriptor is close-on-exec. A reader that only looks (see Locked) holds the lock for
// microseconds, so Lock tries for up to wait before it returns ErrLocked.
func Lock(path string, wait time.Duration) (*os.File, error) {
	return lock(path, unix.LOCK_EX, wait)
}

// Share takes a shared lock on the file or folder at path, waiting as long as somebody holds the exclusive one.
func Share(path string) (*os.File, error) {
	return lock(path, unix.LOCK_SH, -1)
}

// Locked tells whether some process holds the exclusive lock on path.
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

// lock tries until wait has passed; a negative wait is for ever.
func lock(path string, how int, wait time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
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
