package openat

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What each rule opens, below a directory with links that stay inside and links that lead out.
func TestRules(t *testing.T) {
	top := t.TempDir()
	in := filepath.Join(top, "in")
	for path, text := range map[string]string{"in/file": "inside", "in/dir/file": "inside", "out/file": "outside",
		"in/out/file": "inside"} {
		path = filepath.Join(top, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text),
			0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"near": "dir/file", "neardir": "dir", "up": "../out/file", "abs": "/out/file", "magic": "/proc/self/root",
		"loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(in, link)); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, c := range []struct {
		path                               string
		inRoot, beneath, noLinks, oneMount any // what is read, or the error
	}{
		{"file", "inside", "inside", "inside", "inside"},
		{"near", "inside", "inside", unix.ELOOP, unix.ELOOP},
		{"neardir/file", "inside", "inside", unix.ELOOP, unix.ELOOP},
		{"up", "inside", unix.EXDEV, unix.ELOOP, unix.ELOOP}, // in its own root, out/file
		{"abs", "inside", unix.EXDEV, unix.ELOOP, unix.ELOOP},
		{"/file", "inside", unix.EXDEV, unix.EXDEV, unix.EXDEV},
		{"../out/file", "inside", unix.EXDEV, unix.EXDEV, unix.EXDEV},
		{"dir/../file", "inside", "inside", "inside", "inside"},
		{"loop", unix.ELOOP, unix.ELOOP, unix.ELOOP, unix.ELOOP},
		{"nosuch", unix.ENOENT, unix.ENOENT, unix.ENOENT, unix.ENOENT},
	} {
		for i, want := range []any{c.inRoot, c.beneath, c.noLinks, c.oneMount} {
			rule := []Rule{InRoot, Beneath, NoLinks, OneMount}[i]
			f, err := File(dir, c.path, unix.O_RDONLY, rule)
			if errno, fails := want.(unix.Errno); fails {
				var path *os.PathError
				if !errors.Is(err, errno) || !errors.As(err, &path) || path.Path != c.path {
					t.Errorf("%s, rule %d: %v, want %v", c.path, i, err, errno)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s, rule %d: %v", c.path, i, err)
				continue
			}
			text, err := io.ReadAll(f)
			if f.Close(); err != nil || string(text) != want {
				t.Errorf("%s, rule %d: %q, %v; want %q", c.path, i, text, err, want)
			}
		}
	}
}

// No rule follows a link of /proc, and one rule enters no mount.
func TestProc(t *testing.T) {
	top, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	for _, rule := range []Rule{InRoot, Beneath, NoLinks} {
		if fd, err := FD(int(top.Fd()), "proc/self/root/etc", unix.O_PATH, rule); !errors.Is(err, unix.ELOOP) {
			t.Errorf("rule %x: %d, %v", rule, fd, err)
		}
		if _, err := FD(int(top.Fd()), "proc/version", unix.O_PATH, rule); err != nil {
			t.Errorf("rule %x: %v", rule, err)
		}
	}
	if _, err := FD(int(top.Fd()), "proc/version", unix.O_PATH, OneMount); !errors.Is(err, unix.EXDEV) {
		t.Errorf("%v, want %v", err, unix.EXDEV)
	}
	fd, err := FD(int(top.Fd()), "proc", unix.O_PATH, InRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %x, %v: programs inherit it", flags, err)
	}
}
