package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// upgradeVariable has, in a host, the tree of the release to which the session upgrades it.
const upgradeVariable = "RKT_E2E_UPGRADE"

// TestHostUpgrade replaces the files of a host by those of the next release while pods of every
// kind run there. The session is testdata/upgrade/host.txtar.
func TestHostUpgrade(t *testing.T) {
	dir := os.Getenv(releasesVariable)
	if dir == "" {
		t.Skipf("$%s is not set: run make test", releasesVariable)
	}
	testkit.Require(t, "systemd-nspawn", "machinectl", "dbus-daemon", "iptables", "redis-server", "redis-cli",
		"busybox", "pgrep", "jq")
	overlay := installed(t)
	trixie, forky := filepath.Join(dir, "trixie"), filepath.Join(dir, "forky")
	for _, step := range []struct{ name, from, to string }{{"to-257", "", trixie}, {"from-257-to-262", trixie, forky}} {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			playUpgrade(t, step.from, overlay, "testdata/upgrade/host.txtar", []string{step.to},
				upgradeVariable+"="+step.to)
		})
	}
}

// playUpgrade runs a session in a host that has the directories binds, too, and further environment
// variables.
func playUpgrade(t *testing.T, root, overlay, session string, binds []string, env ...string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if session, err = filepath.Abs(session); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "rkt-upgrade-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	h, err := testkit.Boot(t.Context(), testkit.Config{
		Dir: dir, Root: root, Overlay: []string{overlay}, Binds: append(binds, filepath.Dir(session),
			filepath.Dir(self)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	inside(t, h, self, session, append(env, releaseVariable+"="+filepath.Base(root))...)
	for _, leak := range leaks(t, h) {
		t.Errorf("left behind: %s", leak)
	}
}

// formerCommit is the last commit whose programs make pods of the former format: the former version
// of the toolkit.
const formerCommit = "b11faea20107df1c59dbb77a3a948d07be584c29"

// formerVariable has, in a host, the tree of the former version, while upgradeVariable has that of
// this one.
const formerVariable = "RKT_E2E_FORMER"

// TestToolkitUpgrade replaces the toolkit by the next version while there are pods in every state,
// and goes back. The session is testdata/upgrade/toolkit.txtar.
func TestToolkitUpgrade(t *testing.T) {
	testkit.Require(t, "systemd-nspawn", "machinectl", "dbus-daemon", "iptables", "redis-server",
		"redis-cli", "busybox", "pgrep", "jq")
	overlay := installed(t)
	trees, err := os.MkdirTemp("/var/tmp", "rkt-upgrade-trees-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(trees)
	former, next := filepath.Join(trees, "former"), filepath.Join(trees, "next")
	installFormer(t, filepath.Join(trees, "source"), former)
	command(t, "sh", "-c", "mkdir $1 && cp -a $0/usr $1", overlay, next)
	playUpgrade(t, "", overlay, "testdata/upgrade/toolkit.txtar", []string{trees},
		formerVariable+"="+former, upgradeVariable+"="+next)
}

// installFormer does "make install" of the former version into dir. It is built in source, from the
// repository's history.
func installFormer(t *testing.T, source, dir string) {
	t.Helper()
	out, err := exec.Command("git", "rev-parse", "--is-shallow-repository").Output()
	if err != nil || string(out) != "false\n" {
		t.Skipf("no git repository with its history, and so no commit %s: git fetch --unshallow", formerCommit)
	}
	command(t, "bash", "-c", "set -o pipefail; mkdir $1; git -C $(git rev-parse --show-toplevel) archive $0 | tar -x "+
		"-C $1",
		formerCommit, source)
	command(t, "make", "-C", source, "install", "DESTDIR="+dir, "PREFIX=/usr", "VERSION=former")
}
