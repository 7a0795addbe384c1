package inotify

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// limitedVariable has the directory that TestLimited works with in its user namespace.
const limitedVariable = "RKT_TEST_INOTIFY"

// TestPromise runs TestLimited in a user namespace whose limit has nothing to do with the
// machine's.
func TestPromise(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestLimited$", "-test.v")
	cmd.Env = append(os.Environ(), limitedVariable+"="+filepath.Join(t.TempDir(), "starting"))
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids,
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestLimited") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestLimited(t *testing.T) {
	dir := os.Getenv(limitedVariable)
	if dir == "" {
		return // TestPromise starts it
	}
	setLimit(t, 3*PerPod-1) // two pods
	if err := promise(dir, "one"); err != nil {
		t.Fatal(err)
	}
	if err := promise(dir, "one"); err != nil {
		t.Errorf("the same pod again: %v", err)
	}
	if err := promise(dir, "two"); err != nil {
		t.Errorf("a second pod: %v", err)
	}
	err := promise(dir, "three")
	want := fmt.Sprintf("root may have %d altogether; raise that limit: sysctl -w user.max_inotify_instances=8192",
		3*PerPod-1)
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("a third pod: %v, want …%s", err, want)
	}

	// The process of a pod that ended, or another process of that number, is promised nothing.
	for name, of := range map[string]string{"one": "999999999.1", "two": "1.1"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(of, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := promise(dir, "three"); err != nil {
		t.Errorf("when both have ended: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "three" {
		t.Errorf("what is left: %v, %v", entries, err)
	}

	// What other processes have in use counts.
	setLimit(t, PerPod-1)
	if err := promise(dir, "three"); err == nil {
		t.Errorf("a pod without room for one")
	}
}

func setLimit(t *testing.T, n int) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/user/max_inotify_instances", fmt.Append(nil, n), 0); err != nil {
		t.Fatal(err)
	}
}

// TestNoFileLeft: a process that may open no more files does not take that for the user's limit.
func TestNoFileLeft(t *testing.T) {
	var had syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &had); err != nil {
		t.Fatal(err)
	}
	low := syscall.Rlimit{Cur: 20, Max: had.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &had)
	if enough, err := left(40); !enough || err != nil {
		t.Errorf("40 instances of at most 20 files: %v, %v", enough, err)
	}
}

func TestHeld(t *testing.T) {
	before := held(os.Getpid())
	for range 2 {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	if n := held(os.Getpid()); n != before+2 || held(0) != 0 {
		t.Errorf("holds %d instances, want %d; process 0 holds %d", n, before+2, held(0))
	}
}
