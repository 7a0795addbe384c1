package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestOwn(t *testing.T) {
	const (
		pure   = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
		inside = "30 23 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
		hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup " +
			"cgroup rw,memory\n40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n41 31 0:38 / " +
			"/sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	)
	for _, c := range []struct {
		groups, mounts string
		want           []string
	}{
		{"0::/a/b\n", pure, []string{"/sys/fs/cgroup/a/b"}},
		{"0::/docker/x/a\n", inside, []string{"/sys/fs/cgroup/a"}},
		{"9:name=systemd:/s\n4:memory:/m\n0::/\n", hybrid, []string{"/sys/fs/cgroup/systemd/s",
			"/sys/fs/cgroup/unified"}},
		{"4:memory:/m\n", hybrid, nil},
		{"0::/\n", "", nil},
		{"0::/a\n", `30 23 0:26 / /sys/fs/c\040group rw - cgroup2 cgroup2 rw`, []string{"/sys/fs/c group/a"}},
		{"0::/../../elsewhere\n", pure, nil},
	} {
		got, err := parse(c.groups, strings.NewReader(c.mounts), Unified, systemd)
		if !slices.Equal(got, c.want) || err != nil {
			t.Errorf("%q: %q, %v; want %q", c.groups, got, err, c.want)
		}
	}
	const devices = "36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n"
	got, err := parse("5:devices:/d\n0::/\n", strings.NewReader(hybrid+devices), Devices)
	if !slices.Equal(got, []string{"/sys/fs/cgroup/devices/d"}) || err != nil {
		t.Errorf("devices: %q, %v", got, err)
	}
}

func TestEmpty(t *testing.T) {
	dir := t.TempDir()
	for path, processes := range map[string]string{"old": "", "old/below": "", "used": "", "used/below": "1\n"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path, "cgroup.procs"), []byte(processes), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]bool{"old": true, "used": false, "absent": false} {
		if got := empty(filepath.Join(dir, path)); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// A group whose name would be one of the kernel's files or controllers has another one.
func TestOfUnit(t *testing.T) {
	want := []string{"/g/system.slice/memory.service", "/g/system.slice/_memory.service"}
	if got := Unit([]string{"/g/unhealthy@memory.service"}, "system.slice", "memory.service"); !slices.Equal(got,
		want) {
		t.Errorf("%q", got)
	}
}

// Where the kernel has no cgroup.kill, each process of a group and those below it is killed.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	sleeper := exec.Command("/bin/sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	for dir, text := range map[string]string{dir: "", below: strconv.Itoa(sleeper.Process.Pid) + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error)
	go func() { done <- Kill(dir) }()
	err := sleeper.Wait()
	if status, ok := err.(*exec.ExitError); !ok || status.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", err)
	}
	if err := os.WriteFile(filepath.Join(below, "cgroup.procs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("goes on killing")
	}
}
