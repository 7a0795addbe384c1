package prepare

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// copyTree copies what is in a directory of an image, and the directory's own owner, mode and
// attributes, into an empty one, which nobody else can change meanwhile. No link is followed, no
// fifo or device opened; hard links stay such.
func copyTree(from, to *os.File) error {
	c := copier{top: to, links: map[[2]uint64]string{}}
	return c.directory(from, to, "")
}

type copier struct {
	top   *os.File
	links map[[2]uint64]string // by device and inode: path below top of a file that has more names
}

func (c *copier) directory(from, to *os.File, at string) error {
	for {
		names, err := from.Readdirnames(256)
		for _, name := range names {
			if err := c.entry(from, to, name, at+name); err != nil {
				return fmt.Errorf("copy of %s: %w", at+name, err)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	return like(from, to)
}

func (c *copier) entry(from, to *os.File, name, at string) error {
	dirFrom, dirTo := int(from.Fd()), int(to.Fd())
	var st unix.Stat_t
	if err := unix.Fstatat(dirFrom, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		if first, ok := c.links[[2]uint64{st.Dev, st.Ino}]; ok {
			return unix.Linkat(int(c.top.Fd()), first, dirTo, name, 0)
		}
		c.links[[2]uint64{st.Dev, st.Ino}] = at
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := unix.Mkdirat(dirTo, name, 0o700); err != nil {
			return err
		}
		return c.pair(from, to, name, unix.O_RDONLY|unix.O_DIRECTORY, unix.O_RDONLY|unix.O_DIRECTORY,
			func(in, out *os.File) error {
				return c.directory(in, out, at+"/")
			})
	case unix.S_IFREG:
		return c.pair(from, to, name, unix.O_RDONLY, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL,
			func(in, out *os.File) error {
				if _, err := io.Copy(out, in); err != nil {
					return err
				}
				return like(in, out)
			})
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dirFrom, name, buf)
		if err == nil {
			err = unix.Symlinkat(string(buf[:n]), dirTo, name)
		}
		if err != nil {
			return err
		}
	default:
		if err := unix.Mknodat(dirTo, name, st.Mode&unix.S_IFMT, int(st.Rdev)); err != nil {
			return err
		}
	}
	if err := unix.Fchownat(dirTo, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(dirTo, name, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(dirTo, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// pair opens one name in both directories for f.
func (c *copier) pair(from, to *os.File, name string, flagsFrom, flagsTo int, f func(in, out *os.File) error) error {
	const flags = unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := unix.Openat(int(from.Fd()), name, flagsFrom|flags, 0)
	if err != nil {
		return err
	}
	in := os.NewFile(uintptr(fd), name)
	defer in.Close()
	if fd, err = unix.Openat(int(to.Fd()), name, flagsTo|flags, 0o600); err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), name)
	return errors.Join(f(in, out), out.Close())
}

// like gives a file the owner, mode, extended attributes and times of another; in this order, since
// a change of owner takes the setuid bit and file capabilities away.
func like(from, to *os.File) error {
	in, out := int(from.Fd()), int(to.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(in, &st); err != nil {
		return err
	}
	if err := unix.Fchown(out, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(out, st.Mode&0o7777); err != nil {
		return err
	}
	names := make([]byte, 64<<10) // the kernel's limit of a list, and of a value (xattr(7))
	n, err := unix.Flistxattr(in, names)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:max(n, 0)]), "\x00"), "\x00") {
		if name == "" || strings.HasPrefix(name, "trusted.") || name == "security.selinux" {
			// overlayfs's, and the host's own
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Fgetxattr(in, name, value)
		if err == nil {
			err = unix.Fsetxattr(out, name, value[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return unix.UtimesNanoAt(out, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}
