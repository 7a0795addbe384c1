package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const uuid = "0ed5c2f6-2ec4-4c6b-8b31-0a1f6a7f3b11"

// TestMain runs the tests in a mount namespace of their own, with an empty /run.
func TestMain(m *testing.M) {
	if os.Getenv("RKT_NETNS_TEST") != "" {
		err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		if err == nil {
			err = unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "RKT_NETNS_TEST=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if err := cmd.Run(); cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "a mount namespace for the tests (they need root):", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

func own(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestLifecycle(t *testing.T) {
	home := own(t)
	for range 3 {
		if Pinned(uuid) {
			t.Fatal("pinned before it was made")
		}
		if err := Create(uuid, "/var/lib/rkt"); err != nil {
			t.Fatal(err)
		}
		if !Pinned(uuid) {
			t.Fatal("not pinned")
		}
		if err := Create(uuid, "/var/lib/rkt"); !errors.Is(err, fs.ErrExist) {
			t.Fatalf("made twice: %v", err)
		}
		for name, want := range map[string]bool{"lo": true, "eth0": false} {
			if has, err := HasInterface(uuid, name); has != want || err != nil {
				t.Fatalf("%s: %v, %v", name, has, err)
			}
		}
		out, err := exec.Command("nsenter", "--net="+Path(uuid), "ip", "-o", "link").Output()
		if err != nil || strings.Count(string(out), "\n") != 1 ||
			!strings.Contains(string(out), "LOOPBACK,UP,LOWER_UP") {
			t.Fatalf("%v\n%s", err, out)
		}
		for range 2 {
			if err := Release(uuid); err != nil {
				t.Fatal(err)
			}
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil || strings.Contains(string(mounts), Dir) {
			t.Fatalf("%v\n%s", err, mounts)
		}
		if _, err := os.Lstat(Path(uuid)); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	for range 100 { // every thread that goroutines run on is at home
		done := make(chan string)
		go func() { name, _ := os.Readlink("/proc/thread-self/ns/net"); done <- name }()
		if name := <-done; name != home {
			t.Fatalf("a thread is left in %s", name)
		}
	}
}

// TestHalfMade: a kill between making the file and mounting on it.
func TestHalfMade(t *testing.T) {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(Path(uuid), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if Pinned(uuid) {
		t.Fatal("an empty pin counts")
	}
	if _, err := HasInterface(uuid, "lo"); err == nil {
		t.Fatal("an empty pin can be entered")
	}
	if err := Release(uuid); err != nil {
		t.Fatal(err)
	}
}

// TestStacked: a pin that something was mounted on twice.
func TestStacked(t *testing.T) {
	if err := Create(uuid, "/var/lib/rkt"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(Path(uuid), Path(uuid), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := Release(uuid); err != nil {
		t.Fatal(err)
	}
	if Pinned(uuid) {
		t.Fatal("still pinned")
	}
}
