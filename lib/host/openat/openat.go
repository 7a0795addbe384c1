// Package openat opens files below a directory in which others can make links and rename: what is
// opened lies where the caller means it to. It is the only user of openat2(2), with one rule for
// each kind of trust.
package openat

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Rule says which paths are opened. Links such as /proc/PID/root are followed by none.
type Rule uint64

const (
	// InRoot resolves a path as a process does whose root is the directory: no link and no ".."
	// leads out.
	InRoot Rule = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	// Beneath follows links that stay below the directory; those that lead out, and ".." above it,
	// are EXDEV.
	Beneath Rule = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS
	// NoLinks is Beneath without any link: one anywhere in the path is ELOOP.
	NoLinks Rule = Beneath | unix.RESOLVE_NO_SYMLINKS
	// OneMount is NoLinks that enters no mount: one is EXDEV.
	OneMount Rule = NoLinks | unix.RESOLVE_NO_XDEV
)

// FD opens a path below the directory dir and returns a descriptor that no program inherits. flags
// are those of open(2).
func FD(dir int, path string, flags int, rule Rule) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: uint64(rule)}
	for {
		fd, err := unix.Openat2(dir, path, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			// EAGAIN: a rename or mount elsewhere in the system, see openat2(2)
			return fd, err
		}
	}
}

// File is FD for a directory and a file of package os. Its errors name the path.
func File(dir *os.File, path string, flags int, rule Rule) (*os.File, error) {
	fd, err := FD(int(dir.Fd()), path, flags, rule)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
