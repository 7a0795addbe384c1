package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// softReboot is a session of two parts, between which the host is soft-rebooted. systemd has that
// since 254.
const softReboot = "soft-reboot"

// playSoftReboot runs the session in a host with the files of the tree root.
func playSoftReboot(t *testing.T, root, overlay string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "rkt-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	// On the host's own disk, since a soft reboot makes a new /tmp: this program, and the sessions.
	own, err := os.MkdirTemp("/var/tmp", "rkt-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(own)
	command(t, "sh", "-c", "mkdir $1/opt && chmod 755 $1 && cp $2 testdata/soft-reboot/*.txtar $1/opt", "sh", own, self)
	self = "/opt/" + filepath.Base(self)
	h, err := testkit.Boot(t.Context(), testkit.Config{Dir: dir, Root: root, Overlay: []string{overlay, own}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	inside(t, h, self, "/opt/1-before.txtar")
	if err := h.SoftReboot(t.Context()); err != nil {
		journal, _ := h.Command(t.Context(), "journalctl", "--no-pager", "--lines=100",
			"--output=short-monotonic").CombinedOutput()
		t.Fatalf("%v\nthe end of the host's journal:\n%s", err, journal)
	}
	inside(t, h, self, "/opt/2-after.txtar")
	for _, leak := range leaks(t, h) {
		t.Errorf("left behind: %s", leak)
	}
}
