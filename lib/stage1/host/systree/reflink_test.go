package systree

import (
	"bytes"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
	"golang.org/x/sys/unix"
)

// Where the file system can, a copy shares its blocks with the host's files: it takes no room, and
// is a file of its own all the same. On one that can't, it is a plain copy.
func TestReflink(t *testing.T) {
	testkit.Require(t, "mkfs.xfs")
	const inside = "RKT_TEST_REFLINK"
	if os.Getenv(inside) == "" { // in a process with mounts of its own, which end with it
		again := exec.Command(os.Args[0], "-test.run=^TestReflink$", "-test.v")
		again.Env = append(os.Environ(), inside+"=1")
		again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		out, err := again.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestReflink/reflink=1")) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	const size = 32 << 20
	content := make([]byte, size)
	rand.Read(content)
	for reflink, most := range map[string]int64{"1": size / 16, "0": 2 * size} {
		t.Run("reflink="+reflink, func(t *testing.T) {
			dir := xfs(t, reflink)
			root := filepath.Join(dir, "root")
			file := filepath.Join(root, "usr/lib/large")
			write(t, root, "usr/lib/large", string(content))
			before := free(t, dir)
			tree := use(t, Trees{filepath.Join(dir, "systemd"), root}, []Program{{Path: "/usr/lib/large"}})
			took := before - free(t, dir)
			if took > most || reflink == "0" && took < size {
				t.Errorf("a copy of %d bytes took %d", size, took)
			}
			copied := filepath.Join(tree, "usr/lib/large")
			if info, err := os.Stat(copied); err != nil || info.Sys().(*syscall.Stat_t).Nlink != 1 {
				t.Errorf("%v, %v", info, err)
			}
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(make([]byte, 4096), 0); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(copied); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, which are not those that were copied, %v", len(got), err)
			}
		})
	}
}

// xfs mounts a new XFS, with reflinks or without.
func xfs(t *testing.T, reflink string) string {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 512<<20); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"mkfs.xfs", "-q", "-m", "reflink=" + reflink, image}, {"mount", "-o", "loop", image, dir},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// free is how many bytes a file system has left, with all that was written on its disk.
func free(t *testing.T, dir string) int64 {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bfree) * int64(st.Bsize)
}
