// Package copy copies a file or a directory between two trees, either of which may be the root of
// an app that changes it meanwhile: each path is resolved inside its root, and below it names are
// opened one by one, without following a link. Nothing is there half.
package copy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/host/tree"
	"golang.org/x/sys/unix"
)

// Place is a path in a tree.
type Place struct {
	Root *os.File // opened; no link leads out
	Path string   // absolute
}

// Options are how files are copied. They keep their mode, time and extended attributes.
type Options struct {
	UID, GID int          // owner of what is made
	Plain    bool         // without set-user-ID and set-group-ID bits, and capabilities
	Warn     func(string) // told of what is left out: devices and sockets
}

// maxDepth bounds the directories that are opened at once.
const maxDepth = 2000

// Copy copies what is at a path, as cp -r does: into to if that is a directory, and under the name
// to if not. A from that ends with "/." is what is in the directory. The calling goroutine does all
// of the work.
func Copy(ctx context.Context, from, to Place, o Options) error {
	c := &copier{ctx, o}
	contents := strings.HasSuffix(from.Path, "/.") || path.Clean(from.Path) == "/"
	source, err := c.open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	st, err := stat(source)
	if err != nil {
		return err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !isDir && strings.HasSuffix(from.Path, "/") {
		return fmt.Errorf("%s: is not a directory", from.Path)
	}
	there, err := overlay.Stat(to.Root, to.Path)
	switch {
	case err == nil && there.Mode&unix.S_IFMT == unix.S_IFDIR:
		dir, err := overlay.Open(to.Root, to.Path, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer dir.Close()
		if contents && isDir {
			return c.entries(source, dir, to.Path, 0)
		}
		return c.put(source, st, dir, path.Base(path.Clean(from.Path)), to.Path, 0)
	case err == nil && isDir:
		return fmt.Errorf("%s: is not a directory", to.Path)
	case err == nil && there.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s: is not a regular file", to.Path)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	case strings.HasSuffix(to.Path, "/") && (err == nil || !isDir):
		return fmt.Errorf("%s: no such directory", to.Path)
	}
	at, err := overlay.Follow(to.Root, to.Path)
	if err != nil {
		return err
	}
	dir, err := overlay.Open(to.Root, path.Dir(at), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	return c.put(source, st, dir, path.Base(at), path.Dir(at), 0)
}

type copier struct {
	ctx context.Context
	o   Options
}

// open opens a source for reading. A device or a socket is refused before it is opened.
func (c *copier) open(from Place) (*os.File, error) {
	st, err := overlay.Stat(from.Root, from.Path)
	if err != nil {
		return nil, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR, unix.S_IFREG:
	default:
		return nil, fmt.Errorf("%s: is neither a regular file nor a directory", from.Path)
	}
	return overlay.Open(from.Root, from.Path, unix.O_RDONLY|unix.O_NOCTTY)
}

func stat(f *os.File) (st unix.Stat_t, err error) {
	if err = unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, err
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFDIR && kind != unix.S_IFREG {
		err = fmt.Errorf("%s: is neither a regular file nor a directory", f.Name())
	}
	return st, err
}

// put copies an opened file or directory to a name in an opened directory, which in names in
// errors.
func (c *copier) put(source *os.File, st unix.Stat_t, dir *os.File, name, in string, depth int) error {
	at := path.Join(in, name)
	there, exists, err := look(dir, name)
	if err != nil {
		return failed(at, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		if exists && there == unix.S_IFDIR {
			return fmt.Errorf("%s: is a directory, and a file was to be put there", at)
		}
		return c.place(dir, name, at, func(tmp string) error { return c.file(source, st, dir, tmp, at) })
	}
	switch {
	case exists && there != unix.S_IFDIR:
		return fmt.Errorf("%s: is not a directory, and a directory was to be put there", at)
	case exists:
		into, err := openDir(dir, name)
		if err != nil {
			return failed(at, err)
		}
		defer into.Close()
		return c.entries(source, into, at, depth+1)
	}
	return c.place(dir, name, at, func(tmp string) error {
		if err := unix.Mkdirat(int(dir.Fd()), tmp, 0o700); err != nil {
			return failed(at, err)
		}
		into, err := openDir(dir, tmp)
		if err != nil {
			return failed(at, err)
		}
		defer into.Close()
		if err := c.entries(source, into, at, depth+1); err != nil {
			return err
		}
		return failed(at, c.finish(source, into, st, at))
	})
}

// entries copies what is in a directory into another one.
func (c *copier) entries(source, into *os.File, at string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d directories deep", at, maxDepth)
	}
	for {
		names, err := source.Readdirnames(256)
		for _, name := range names {
			if err := c.entry(source, into, name, at, depth); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return failed(at, err)
		}
	}
}

func (c *copier) entry(source, into *os.File, name, in string, depth int) error {
	if err := context.Cause(c.ctx); err != nil {
		return err
	}
	at := path.Join(in, name)
	var st unix.Stat_t
	if err := unix.Fstatat(int(source.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return failed(at, err)
	}
	kind := st.Mode & unix.S_IFMT
	switch kind {
	case unix.S_IFDIR, unix.S_IFREG:
		flags := unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
		fd, err := unix.Openat(int(source.Fd()), name, flags, 0)
		if err != nil {
			return failed(at, err)
		}
		f := os.NewFile(uintptr(fd), at)
		defer f.Close()
		if st, err = stat(f); err != nil { // it may be another one by now
			return err
		}
		return c.put(f, st, into, name, in, depth)
	case unix.S_IFLNK, unix.S_IFIFO:
		there, exists, err := look(into, name)
		if err != nil {
			return failed(at, err)
		}
		if exists && there == unix.S_IFDIR {
			return fmt.Errorf("%s: is a directory, and a link was to be put there", at)
		}
		return c.place(into, name, at, func(tmp string) error {
			return failed(at, c.node(source, name, st, into, tmp))
		})
	}
	c.o.Warn(fmt.Sprintf("%s: left out: a device or a socket", at))
	return nil
}

// look reports what has a name in a directory.
func look(dir *os.File, name string) (kind uint32, exists bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return 0, false, nil
	}
	return st.Mode & unix.S_IFMT, err == nil, err
}

func openDir(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// place has make make something under a name of its own, and then gives it the name that it is to
// have.
func (c *copier) place(dir *os.File, name, at string, make func(tmp string) error) error {
	tmp := ".rkt-" + rand.Text()
	err := make(tmp)
	if err == nil {
		if err = unix.Renameat(int(dir.Fd()), tmp, int(dir.Fd()), name); err == nil {
			return nil
		}
		err = failed(at, err)
	}
	return errors.Join(err, tree.Remove(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), tmp)))
}

// file copies a regular file, up to the length that it has now.
func (c *copier) file(source *os.File, st unix.Stat_t, dir *os.File, tmp, at string) error {
	fd, err := unix.Openat(int(dir.Fd()), tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC,
		0o600)
	if err != nil {
		return failed(at, err)
	}
	f := os.NewFile(uintptr(fd), at)
	defer f.Close()
	if _, err := io.Copy(f, &interruptible{c.ctx, io.LimitReader(source, st.Size)}); err != nil {
		return failed(at, err)
	}
	if err := c.finish(source, f, st, at); err != nil {
		return failed(at, err)
	}
	return f.Close()
}

// finish gives what was made its owner, mode, extended attributes and time.
func (c *copier) finish(source, f *os.File, st unix.Stat_t, at string) error {
	fd := int(f.Fd())
	err := errors.Join(unix.Fchown(fd, c.o.UID, c.o.GID), unix.Fchmod(fd, c.mode(st)))
	if err == nil {
		err = c.attributes(int(source.Fd()), fd, at)
	}
	return errors.Join(err, unix.UtimesNanoAt(fd, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH))
}

// maxAttributes is the kernel's limit of the names of a file's extended attributes, and of a value
// (xattr(7)).
const maxAttributes = 64 << 10

// attributes copies the extended attributes that users set, and capabilities of a program where
// set-user-ID bits are kept, too. Those that overlayfs obeys are not copied.
func (c *copier) attributes(from, to int, at string) error {
	names := make([]byte, maxAttributes)
	n, err := unix.Flistxattr(from, names)
	if err == unix.ENOTSUP {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		isUsers := strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
		if !isUsers && (name != "security.capability" || c.o.Plain) {
			continue
		}
		value := make([]byte, maxAttributes)
		n, err := unix.Fgetxattr(from, name, value)
		if err == unix.ENODATA { // it is gone
			continue
		}
		if err == nil {
			err = unix.Fsetxattr(to, name, value[:n], 0)
		}
		if err == unix.ENOTSUP || err == unix.ENOSPC || err == unix.EPERM {
			c.o.Warn(fmt.Sprintf("%s: left out: its extended attribute %q: %v", at, name, err))
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) mode(st unix.Stat_t) uint32 {
	if c.o.Plain {
		return st.Mode & 0o1777
	}
	return st.Mode & 0o7777
}

// node copies a link or a fifo.
func (c *copier) node(source *os.File, name string, st unix.Stat_t, dir *os.File, tmp string) error {
	if st.Mode&unix.S_IFMT == unix.S_IFIFO {
		if err := unix.Mknodat(int(dir.Fd()), tmp, unix.S_IFIFO|c.mode(st)&0o777, 0); err != nil {
			return err
		}
	} else {
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(source.Fd()), name, target)
		if err == nil {
			err = unix.Symlinkat(string(target[:n]), int(dir.Fd()), tmp)
		}
		if err != nil {
			return err
		}
	}
	return unix.Fchownat(int(dir.Fd()), tmp, c.o.UID, c.o.GID, unix.AT_SYMLINK_NOFOLLOW)
}

// failed names what an error is about.
func failed(at string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: "copy", Path: at, Err: err}
}

// interruptible is a reader that fails when the context has ended.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := context.Cause(i.ctx); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}
