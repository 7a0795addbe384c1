package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// startedDir has a file for each app that has been started. It is locked until the app has been
// executed, and says why if that failed. Its descriptor is closed by the exec, which nothing else
// could tell of at that moment.
const startedDir = "/run/rkt/started"

// mark makes and locks the file of an app, anew if the app is started anew.
func mark(name string) (fd int, err error) {
	if err := os.MkdirAll(startedDir, 0o700); err != nil {
		return -1, err
	}
	file := filepath.Join(startedDir, name)
	// Locked before it has its name: who finds it waits.
	fd, err = unix.Open(startedDir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", file, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		return -1, fmt.Errorf("%s: %w", file, err)
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return -1, err
	}
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, file, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", file, err)
	}
	return fd, nil
}

// Executed waits until an app, which is being started, has been executed. It is an error if that
// has failed.
func Executed(name string) error {
	file := filepath.Join(startedDir, name)
	var f *os.File
	for {
		var err error
		if f, err = os.Open(file); err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		time.Sleep(time.Millisecond) // its process has just been executed and has not come so far
	}
	defer f.Close()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if st, err := f.Stat(); err != nil || st.Size() > 0 {
		return errors.Join(fmt.Errorf("app %q: was not executed", name), err)
	}
	return nil
}
