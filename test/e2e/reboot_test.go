package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
	"golang.org/x/sys/unix"
)

// TestReboot kills a host with pods in every state and boots it again over its own files. The
// sessions are testdata/reboot/1-before.txtar, and 2-after.txtar, in the host that has come up
// again.
func TestReboot(t *testing.T) {
	testkit.Require(t, "systemd-nspawn", "machinectl", "dbus-daemon", "iptables", "redis-server", "redis-cli",
		"busybox", "pgrep", "jq")
	overlay := installed(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "rkt-reboot-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		// which takes no overlay; and what the hosts write has to outlive the first
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, 0)
	}
	sessions, err := filepath.Glob("testdata/reboot/*.txtar")
	if err != nil || len(sessions) != 2 {
		t.Fatalf("found the sessions %v: %v", sessions, err)
	}
	for i, session := range sessions {
		if session, err = filepath.Abs(session); err != nil {
			t.Fatal(err)
		}
		h, err := testkit.Boot(t.Context(), testkit.Config{Dir: dir, Overlay: []string{overlay},
			Binds: []string{filepath.Dir(session), filepath.Dir(self)}, Again: i > 0})
		if err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() { // SIGKILL for its PID 1, and so for all
				if err := h.Close(); err != nil {
					t.Error(err)
				}
			}()
			inside(t, h, self, session)
			if i > 0 {
				for _, leak := range leaks(t, h) {
					t.Errorf("left behind: %s", leak)
				}
			}
		}()
		if t.Failed() {
			return
		}
	}
}
