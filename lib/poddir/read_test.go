package poddir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// A pod's root process plants links, a fifo and a file without end where the host's programs read.
func TestHostileFiles(t *testing.T) {
	outside := t.TempDir()
	for name, text := range map[string]string{"app": "77\n", "secret": "secret"} {
		if err := os.WriteFile(filepath.Join(outside, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target string) func(path string) error {
		return func(path string) error { return os.Symlink(target, path) }
	}
	for _, c := range []struct {
		name, file, place string // place is what the pod replaces on the way to file
		plant             func(path string) error
	}{
		{"status is a link", StatusDir + "/app", StatusDir + "/app", link(outside + "/app")},
		{"status's directory is a link", StatusDir + "/app", StatusDir, link(outside)},
		{"a relative link out", StatusDir + "/app", StatusDir, link("../../../../../../.." + outside)},
		{"rkt is a link inside of the pod", StatusDir + "/app", "stage1/rootfs/rkt", link("other")},
		{"a magic link", StatusDir + "/app", StatusDir, link("/proc/self/cwd")},
		{"a fifo", StatusDir + "/app", StatusDir + "/app", func(path string) error { return unix.Mkfifo(path, 0o600) }},
		{"a directory", StatusDir + "/app", StatusDir + "/app",
			func(path string) error { return os.Mkdir(path, 0o700) }},
		{"a giant", StatusDir + "/app", StatusDir + "/app", func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat(" ", MaxFile)+"77"), 0o600)
		}},
		{"a file with holes", StatusDir + "/app", StatusDir + "/app", func(path string) error {
			f, err := os.Create(path)
			if err != nil {
				return err
			}
			defer f.Close()
			return f.Truncate(1 << 40)
		}},
		{"the manifest is a link", ManifestFile, ManifestFile, link(outside + "/secret")},
		{"the name is a link", NameFile, NameFile, link(outside + "/secret")},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := prepared(t, In(t.TempDir()), NewUUID(), "name")
			for _, dir := range []string{StatusDir, "stage1/rootfs/other/status"} {
				if err := os.MkdirAll(p.Path(dir), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			write(t, p, "stage1/rootfs/other/status/app", "77\n")
			write(t, p, StatusDir+"/app", "3\n")
			if status, ended := p.AppStatus("app"); status != 3 || !ended {
				t.Fatalf("before: status %d, %v", status, ended)
			}
			if err := os.RemoveAll(p.Path(c.place)); err != nil {
				t.Fatal(err)
			}
			if err := c.plant(p.Path(c.place)); err != nil {
				t.Fatal(err)
			}
			if text, err := p.ReadFile(c.file); err == nil {
				t.Errorf("read %.20q", text)
			}
			if status, ended := p.AppStatus("app"); strings.HasPrefix(c.file, StatusDir) && ended {
				t.Errorf("status %d of a pod that lies", status)
			}
			if c.file == NameFile && p.Name() != "" {
				t.Errorf("name %q", p.Name())
			}
		})
	}
	p := prepared(t, In(t.TempDir()), NewUUID(), "")
	for _, app := range []string{"../../../../pod", "/etc/passwd", "", "."} {
		if status, ended := p.AppStatus(app); ended {
			t.Errorf("app %q: status %d", app, status)
		}
	}
}

// A directory of a pod that is a link is no pod.
func TestPodIsLink(t *testing.T) {
	pods := In(t.TempDir())
	p := prepared(t, pods, NewUUID(), "")
	twin := &Pod{NewUUID(), pods}
	if err := os.Symlink(p.UUID, twin.Dir()); err != nil {
		t.Fatal(err)
	}
	if state, err := twin.State(); err == nil {
		t.Errorf("state of a link: %v", state)
	}
	all, err := pods.All()
	if err != nil || len(all) != 1 {
		t.Errorf("pods: %v, %v", all, err)
	}
}

// TestFormat has what tells a directory's format: a link's text, or the content of a file in format
// 1, after a power cut too.
func TestFormat(t *testing.T) {
	pods := In(t.TempDir())
	p, lock, err := pods.Create(NewUUID())
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	version := p.Path(VersionFile)
	if text, err := os.Readlink(version); err != nil || text != Format {
		t.Errorf("a new one: %q, %v", text, err)
	}
	file := func(text string) error { return os.WriteFile(version, []byte(text), 0o640) }
	link := func(text string) error { return os.Symlink(text, version) }
	for _, c := range []struct {
		make  func(text string) error
		text  string
		wrong string
	}{
		{link, Format, ""},
		{link, "2", ""},
		{link, "0", `is of format "0"`},
		{link, "3", ""},
		{link, "5", `is of format "5"`},
		{link, "99", `is of format "99", and this program knows only "1" to "4"`},
		{link, Format + "0", `is of format "40"`},
		{link, "/etc/passwd", `is of format "/etc/passwd"`},
		{link, strings.Repeat("9", 99), `is of format "` + strings.Repeat("9", 32) + `"`},
		{file, "1\n", ""},
		{file, "", ""},
		{file, "\x00\x00", ""},
		{file, "99\n", `is of format "99", and this program knows only "1" to "4"`},
		{file, "\x0099\n", `is of format "\x0099"`},
		{file, "10\n", `is of format "10"`},
		{file, strings.Repeat("9", 99), `is of format "` + strings.Repeat("9", 32) + `"`},
		{func(string) error { return unix.Mkfifo(version, 0o640) }, "a fifo", "not a regular file"},
		{func(string) error { return os.Mkdir(version, 0o750) }, "a directory", "not a regular file"},
		{func(string) error { return nil }, "nothing", ""},
	} {
		if err := errors.Join(os.Remove(version), c.make(c.text)); err != nil {
			t.Fatal(err)
		}
		state, err := p.State()
		if c.wrong == "" && (err != nil || state != AbortedPrepare) || !testkit.Says(err, c.wrong) {
			t.Errorf("%q: %v, %v", c.text, state, err)
		}
	}
}
