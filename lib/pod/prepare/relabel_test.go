package prepare

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/testkit"
	"golang.org/x/sys/unix"
)

func TestParseRelabel(t *testing.T) {
	for s, want := range map[string]string{
		"/srv:/a":                                "",
		"/srv:/a:z":                              "shared",
		"/srv:/a:ro,Z":                           "private",
		"data:/a:z":                              "shared",
		"v,kind=host,source=/srv,relabel=shared": "shared",
		"v,kind=named,relabel=private":           "private",
		"v,kind=host,source=/srv":                "",
		"/srv:/a:zz":                             `option "zz"`,
		"v,kind=host,source=/srv,relabel=z":      `volume "v": relabel=z ... shared, private`,
		"v,kind=empty,relabel=shared":            `volume "v": relabel ... kind=host and kind=named`,
	} {
		var v Volumes
		got := ""
		err := v.AddVolume(s)
		if len(v.Binds) > 0 {
			got = string(v.Binds[0].Relabel)
		} else {
			got = string(v.Relabel["v"])
		}
		if !testkit.Gives(got, err, want) {
			t.Errorf("%s: %q, %v; want %q", s, got, err, want)
		}
	}
}

// Volumes get the context that is asked for, and directories that the host needs do not, even by a
// link.
func TestRelabelVolumes(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(dir+"/own/below", 0o755), os.Mkdir(dir+"/all", 0o755), os.Mkdir(dir+"/none", 0o755),
		os.Symlink("/mnt", dir+"/link"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l := containers()
	l.File.Level = "s0:c3,c4"
	storageOf := func(l *labels, lines ...string) *storage {
		t.Helper()
		o := Options{Users: poddir.UsersHost, Warn: func(string) {}}
		for _, line := range lines {
			if err := o.Volumes.AddVolume(line); err != nil {
				t.Fatal(err)
			}
		}
		s, err := newStorage(dir, dir, &o)
		if err != nil {
			t.Fatal(err)
		}
		s.labels = l
		return s
	}
	context := func(name string) string {
		value := make([]byte, 100)
		n, err := unix.Lgetxattr(filepath.Join(dir, name), "security.selinux", value)
		if err != nil {
			return ""
		}
		return string(value[:n])
	}
	lines := []string{dir + "/own:/own:Z", "all,kind=host,source=" + dir + "/all,relabel=shared", dir + "/none:/none"}
	before := context("own")
	if err := storageOf(nil, append(lines, "/mnt:/e:z")...).relabelVolumes(); err != nil || context("own") != before {
		t.Errorf("without SELinux: %v, %q", err, context("own"))
	}
	if err := storageOf(&labels{Labels: *l}, lines...).relabelVolumes(); err != nil {
		t.Fatal(err)
	}
	const file = "u:object_r:container_file_t:s0"
	if context("own") != file+":c3,c4" || context("own/below") != file+":c3,c4" || context("all") != file ||
		strings.HasPrefix(context("none"), file) {
		t.Errorf("%q, %q, %q, %q", context("own"), context("own/below"), context("all"), context("none"))
	}
	for _, line := range []string{"/mnt:/e:z", dir + "/link:/e:Z", "v,kind=host,source=/media/,relabel=private"} {
		err := storageOf(&labels{Labels: *l}, line).relabelVolumes()
		if !testkit.Says(err, "SELinux context (z, Z, relabel=)") {
			t.Errorf("%s: %v", line, err)
		}
	}
}
