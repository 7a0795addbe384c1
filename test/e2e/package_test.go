package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// TestPackage makes the packages, looks at them, and installs, upgrades and removes the one of
// Debian in hosts that have nothing of the toolkit. The session is testdata/package/debian.txtar.
func TestPackage(t *testing.T) {
	testkit.Require(t, "dpkg-deb", "lintian", "mksquashfs", "unsquashfs", "systemd-nspawn", "redis-server")
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	packages := filepath.Join(dir, "packages")
	if err := os.Mkdir(packages, 0o755); err != nil {
		t.Fatal(err)
	}
	pack(t, packages, "0022")
	deb, tarball := packages+"/rkt_2.0.0-1_amd64.deb", packages+"/rkt-2.0.0-linux-amd64.tar.gz"

	t.Run("lintian", func(t *testing.T) {
		if out, err := limited(t, "lintian", "--allow-root", "--fail-on=error", deb).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("extension", func(t *testing.T) {
		out, err := limited(t, "unsquashfs", "-cat", packages+"/rkt-2.0.0-linux-amd64.raw",
			"usr/lib/extension-release.d/extension-release.rkt").Output()
		if err != nil || string(out) != "ID=_any\nEXTENSION_RELOAD_MANAGER=1\n" {
			t.Errorf("%q, %v", out, err)
		}
		out, err = limited(t, "unsquashfs", "-lls", packages+"/rkt-2.0.0-linux-amd64.raw").Output()
		if err != nil || !strings.Contains(string(out), "-rwxr-xr-x root/root") ||
			!strings.Contains(string(out), "/usr/bin/rkt-run-prepared") ||
			strings.Contains(string(out), "/etc") {
			t.Errorf("%s, %v", out, err)
		}
	})
	t.Run("again", func(t *testing.T) { // a moment later, by somebody with another umask
		again := filepath.Join(dir, "again")
		pack(t, again, "0077")
		files, err := filepath.Glob(packages + "/rkt*")
		if err != nil || len(files) != 3 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			if sum(t, file) != sum(t, filepath.Join(again, filepath.Base(file))) {
				t.Errorf("%s: is of other bytes when it is made again", filepath.Base(file))
			}
		}
	})

	// What the hosts have: two versions of the package, the tarball, and the images.
	former := filepath.Join(dir, "former")
	command(t, "dpkg-deb", "--raw-extract", deb, former)
	command(t, "sed", "-i", "s/^Version: .*/Version: 2.0.0~devel202601010000.g0123abc-1/", former+"/DEBIAN/control")
	command(t, "touch", former+"/usr/bin/rkt-of-old")
	overlay := filepath.Join(dir, "overlay")
	command(t, "mkdir", "-p", overlay+"/packages", overlay+"/usr/local/bin")
	command(t, "dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", former, overlay+"/packages/former.deb")
	command(t, "cp", deb, overlay+"/packages/rkt.deb")
	command(t, "cp", tarball, overlay+"/packages/rkt.tar.gz")
	command(t, "cp", "-r", installed(t)+"/images", overlay+"/images")
	command(t, "cp", installed(t)+"/usr/local/bin/journalctl", overlay+"/usr/local/bin/journalctl")
	roots := []string{""}
	if trees := os.Getenv(releasesVariable); trees != "" {
		roots = append(roots, filepath.Join(trees, "trixie"), filepath.Join(trees, "forky"))
	}
	for _, root := range roots {
		name := filepath.Base(root)
		if root == "" {
			name = "this"
		}
		t.Run(name, func(t *testing.T) {
			play(t, root, []string{overlay}, "testdata/package/debian.txtar")
		})
	}
}

// pack makes all packages of version 2.0.0 in a directory, in a copy of the tree: other tests build
// in this one.
func pack(t *testing.T, dir, umask string) {
	t.Helper()
	tree := t.TempDir()
	command(t, "bash", "-c", "set -o pipefail; cd ../..; git ls-files -z --cached --others --exclude-standard | "+
		"xargs -0 ls -d 2>/dev/null | tar --create --files-from=- | tar --extract --directory=$0", tree)
	command(t, "sh", "-c", "umask "+umask+"; make -C "+tree+" deb tarball VERSION=2.0.0 DIST="+dir+
		" SOURCE_DATE_EPOCH=1750000000")
}

func sum(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))
}
