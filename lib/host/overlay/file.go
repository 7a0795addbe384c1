package overlay

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/bounded"
	"github.com/rkt-toolkit/rkt/lib/host/openat"
	"golang.org/x/sys/unix"
)

// Open opens a file as an app sees it; a device or a fifo of a hostile image is never waited for.
func Open(root *os.File, path string, flags int) (*os.File, error) {
	if flags&unix.O_PATH == 0 { // which opens nothing that could block, and takes no other flag
		flags |= unix.O_NONBLOCK
	}
	return openat.File(root, path, flags, openat.InRoot)
}

// ReadFile reads a regular file as an app sees it, up to limit bytes.
func ReadFile(root *os.File, path string, limit int64) ([]byte, error) {
	f, err := Open(root, path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bounded.File(f, limit)
}

// Stat looks at what a path is for an app, at the end of all links.
func Stat(root *os.File, path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := Open(root, path, unix.O_PATH)
	if err != nil {
		return st, err
	}
	defer f.Close()
	return st, unix.Fstat(int(f.Fd()), &st)
}

// maxLinks is how many links Follow goes through, as many as the kernel does.
const maxLinks = 40

// Follow returns the path without links that a path means for an app, whether or not anything is
// there: a link to what is not there is followed too, within the root.
func Follow(root *os.File, name string) (string, error) {
	found, rest, links := "/", strings.Split(name, "/"), 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		if part == ".." {
			found = path.Dir(found)
			continue
		}
		next := path.Join(found, part)
		target, err := readLink(root, next)
		if err != nil {
			return "", err
		}
		if target == "" {
			found = next
			continue
		}
		if links++; links > maxLinks {
			return "", &os.PathError{Op: "follow", Path: name, Err: unix.ELOOP}
		}
		if path.IsAbs(target) {
			found = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return found, nil
}

// readLink returns where a link leads, or "" for what is no link or not there.
func readLink(root *os.File, name string) (string, error) {
	f, err := Open(root, name, unix.O_PATH|unix.O_NOFOLLOW)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", target)
	if err == unix.ENOENT || err == unix.EINVAL { // no link
		return "", nil
	}
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(target[:n]), nil
}

// MkdirAll makes a directory and those above it, as an app sees the path; what is there already is
// left alone.
func MkdirAll(root *os.File, path string, mode uint32) error {
	dir, err := Open(root, "/", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { dir.Close() }()
	walked := ""
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			return fmt.Errorf("%s: has .. in it", path)
		}
		walked += "/" + name
		next, err := Open(root, walked, unix.O_PATH|unix.O_DIRECTORY)
		if errors.Is(err, os.ErrNotExist) {
			if err := unix.Mkdirat(int(dir.Fd()), name, mode); err != nil {
				return &os.PathError{Op: "mkdir", Path: walked, Err: err}
			}
			if next, err = Open(root, walked, unix.O_RDONLY|unix.O_DIRECTORY); err == nil {
				err = next.Chmod(fileMode(mode)) // without the umask
			}
		}
		if err != nil {
			return err
		}
		dir.Close()
		dir = next
	}
	return nil
}

func fileMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	if mode&0o1000 != 0 {
		m |= os.ModeSticky
	}
	return m
}

// Symlink makes a symbolic link, as an app sees the directories above it; whatever has the name
// already stays.
func Symlink(root *os.File, target, name string) error {
	parent, base := path.Split(path.Clean("/" + name))
	if err := MkdirAll(root, parent, 0o755); err != nil {
		return err
	}
	dir, err := Open(root, parent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Symlinkat(target, int(dir.Fd()), base); err != nil && err != unix.EEXIST {
		return &os.PathError{Op: "symlink", Path: name, Err: err}
	}
	return nil
}

// Replace puts a symbolic link in the place of whatever has the name, as an app sees the
// directories above it. A directory stays, and is an error.
func Replace(root *os.File, target, name string) error {
	parent, base := path.Split(path.Clean("/" + name))
	dir, err := Open(root, parent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	tmp := ".rkt-" + base
	if err := unix.Unlinkat(int(dir.Fd()), tmp, 0); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "symlink", Path: name, Err: err}
	}
	err = unix.Symlinkat(target, int(dir.Fd()), tmp)
	if err == nil {
		err = unix.Renameat(int(dir.Fd()), tmp, int(dir.Fd()), base)
	}
	if err != nil {
		return &os.PathError{Op: "symlink", Path: name, Err: err}
	}
	return nil
}

// WriteFile puts a regular file in the place of whatever has the name, as an app sees the
// directories above it. A link of that name is replaced and not followed; a directory stays, and is
// an error.
func WriteFile(root *os.File, name string, data []byte, mode uint32) error {
	parent, base := path.Split(path.Clean("/" + name))
	if err := MkdirAll(root, parent, 0o755); err != nil {
		return err
	}
	dir, err := Open(root, parent, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	fail := func(err error) error { return &os.PathError{Op: "write", Path: name, Err: err} }
	tmp := ".rkt-" + base
	if err := unix.Unlinkat(int(dir.Fd()), tmp, 0); err != nil && err != unix.ENOENT {
		return fail(err)
	}
	fd, err := unix.Openat(int(dir.Fd()), tmp, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC,
		mode)
	if err != nil {
		return fail(err)
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(fileMode(mode)), f.Close()) // without the umask
	if err == nil {
		err = unix.Renameat(int(dir.Fd()), tmp, int(dir.Fd()), base)
	}
	if err != nil {
		unix.Unlinkat(int(dir.Fd()), tmp, 0)
		return fail(err)
	}
	return nil
}
