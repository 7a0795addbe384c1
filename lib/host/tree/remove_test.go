package tree

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// deep makes directories in directories, each with a file, as a program does that changes into each
// before it makes the next.
func deep(t testing.TB, dir string, depth int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		file, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err == nil {
			unix.Close(file)
			err = unix.Mkdirat(fd, "deep", 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "deep", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	unix.Close(fd)
}

func gone(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

func TestRemove(t *testing.T) {
	for _, c := range []struct {
		name string
		make string // a shell script, in an empty directory
	}{
		{"nothing", ``},
		{"a file", `echo x >a`},
		{"a link to a directory", `ln -s ../outside a`},
		{"a link to nothing", `ln -s nowhere a`},
		{"an empty directory", `mkdir a`},
		{"links in it", `mkdir a a/b; ln -s ../../outside a/b/l; ln -s ../outside a/l`},
		{"a fifo and a socket's like", `mkdir a; mkfifo a/p`},
		{"wide and deep", `for i in $(seq 30); do mkdir -p a/$i/$i/$i; echo x >a/$i/$i/f; done`},
		{"names of its own", `mkdir -p a/.lifted-1/.lifted-1/.lifted-2 a/.lifted-2/x a/b/.lifted-3/y; echo x ` +
			`>a/.lifted-4; mkdir -p a/c/d/e/f`},
		{"lifted", `d=a; for i in $(seq 40); do d=$d/.lifted-$((i % 3)); mkdir -p $d/x/y; echo x >$d/f; done`},
		{"no permissions", `mkdir -p a/b/c; chmod 0 a/b/c a/b a`},
		{"odd names", `mkdir -p "a/ /..." "a/$(printf 'x\ny')/$(printf '\377')"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			sh(t, dir, "mkdir work outside; echo untouched >outside/sentinel; cd work; "+c.make)
			if err := Remove(filepath.Join(dir, "work/a")); err != nil {
				t.Error(err)
			}
			gone(t, filepath.Join(dir, "work/a"))
			if text, err := os.ReadFile(filepath.Join(dir, "outside/sentinel")); string(text) != "untouched\n" {
				t.Errorf("outside: %q %v", text, err)
			}
		})
	}
}

// A tree that is deeper than a path can tell, with few descriptors.
func TestRemoveDeep(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = 64
	dir := filepath.Join(t.TempDir(), "a")
	for _, name := range []string{"", "one", "two"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		deep(t, filepath.Join(dir, name), 3000)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before)
	if err := os.RemoveAll(dir); err == nil {
		t.Error("os.RemoveAll can do it, so this test shows nothing")
	}
	if err := Remove(dir); err != nil {
		t.Error(err)
	}
	gone(t, dir)
}

// What cannot be removed is told of, and the rest goes.
func TestRemoveFails(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("mounts need root: run the tests as root")
	}
	dir := t.TempDir()
	sh(t, dir, "mkdir -p outside a/b/c/d a/e; echo untouched >outside/sentinel; echo x >a/b/c/file; mount --bind "+
		"outside a/b/c/d")
	defer sh(t, dir, "umount -R outside || true; for m in $(findmnt -rno TARGET | grep "+dir+"); do umount $m; done")
	err := Remove(filepath.Join(dir, "a"))
	if !testkit.Says(err, "a/b/c/d: something is mounted there") {
		t.Errorf("a mount: %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "outside/sentinel")); string(text) != "untouched\n" {
		t.Errorf("outside: %q %v", text, err)
	}
	gone(t, filepath.Join(dir, "a/e"))
	sh(t, dir, "mkdir -p m/n && mount --bind outside m/n")
	if err := Remove(filepath.Join(dir, "m")); !testkit.Says(err, "m/n: something is mounted there") {
		t.Errorf("a mount at the top: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "outside/sentinel")); err != nil {
		t.Error(err)
	}
	if err := Remove(filepath.Join(dir, strings.Repeat("x", 300))); err == nil {
		t.Error("a name that cannot be: no error")
	}
}

func BenchmarkRemove(b *testing.B) {
	for _, remove := range []struct {
		name string
		f    func(string) error
	}{{"Remove", Remove}, {"RemoveAll", os.RemoveAll}} {
		b.Run(remove.name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				dir := b.TempDir()
				for i := range 200 {
					sub := fmt.Sprintf("%s/a/%d/%d", dir, i%10, i)
					_ = os.MkdirAll(sub, 0o755)
					for j := range 50 {
						_ = os.WriteFile(fmt.Sprintf("%s/%d", sub, j), nil, 0o644)
					}
				}
				b.StartTimer()
				if err := remove.f(dir + "/a"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
func sh(t testing.TB, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}
