package selinux

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// fedora is what container-selinux has installed.
const fedora = `process = "system_u:system_r:container_t:s0"
content = "system_u:object_r:virt_var_lib_t:s0"
file = "system_u:object_r:container_file_t:s0"
ro_file="system_u:object_r:container_ro_file_t:s0"
sandbox_kvm_process = "system_u:system_r:svirt_qemu_net_t:s0"
`

func TestParseContainers(t *testing.T) {
	for _, test := range []struct{ name, text, process, file, err string }{
		{"Fedora's", fedora, "system_u:system_r:container_t:s0", "system_u:object_r:container_file_t:s0", ""},
		{"without quotes and spaces", "process=a:b:c:s0\nfile=d:e:f:s0", "a:b:c:s0", "d:e:f:s0", ""},
		{"comments", "# process = \"x\"\n; file = y\n\nprocess = \"a:b:c:s0\"\nfile = \"d:e:f:s0\"\n", "a:b:c:s0",
			"d:e:f:s0", ""},
		{"the last of two", "process = a:b:c:s0\nfile = d:e:f:s0\nprocess = a:b:other_t:s0\n", "a:b:other_t:s0",
			"d:e:f:s0", ""},
		{"without levels", "process = a:b:c\nfile = d:e:f\n", "a:b:c", "d:e:f", ""},
		{"with a range", "process = a:b:c:s0-s15:c0.c1023\nfile = d:e:f:s0\n", "a:b:c:s0-s15:c0.c1023", "d:e:f:s0", ""},
		{"empty", "", "", "", "no context for process"},
		{"without file", "process = a:b:c:s0\n", "", "", "no context for process"},
		{"no context", "process = \"container_t\"\n", "", "", `process: "container_t": not USER:ROLE:TYPE:LEVEL`},
		{"a quote inside", "process = a:b:c\"d:s0\n", "", "", `process: "c\"d" ... name in a context`},
		{"a comma in a type", "file = a:b:c,d:s0\n", "", "", `file: "c,d" ... name in a context`},
		{"an option as the user", "file = -a:b:c:s0\n", "", "", `file: "-a" ... name in a context`},
		{"a level that ends the quotes", "file = a:b:c:s0\",dev\n", "", "",
			`file: "s0\",dev" ... level such as s0:c1,c2`},
	} {
		got, err := parseContainers(test.text)
		switch {
		case test.err != "":
			if !testkit.Says(err, test.err) {
				t.Errorf("%s: %v; want %s", test.name, err, test.err)
			}
		case err != nil || got.Process.String() != test.process || got.File.String() != test.file:
			t.Errorf("%s: %v, %v", test.name, got, err)
		case test.text == fedora && got.Image.Type != "container_ro_file_t" || test.text != fedora &&
			got.Image != got.File:
			t.Errorf("%s: of images: %s", test.name, got.Image)
		}
	}
}

func TestReadContainers(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := func(process, err string) {
		t.Helper()
		got, e := ReadContainers(root)
		if !testkit.Says(e, err) || e == nil && got.Process.Type != process {
			t.Errorf("%v, %v; want %s, %s", got, e, process, err)
		}
	}
	want("", "no contexts for containers ... /etc/selinux/targeted/contexts/lxc_contexts)")
	write("etc/selinux/config", "# SELINUXTYPE=comment\nSELINUX=enforcing\n SELINUXTYPE=own \nSELINUXTYPE=../../x\n")
	want("", "no contexts for containers ... /etc/selinux/own/contexts/lxc_contexts)")
	write("etc/selinux/own/contexts/lxc_contexts", strings.ReplaceAll(fedora, "container_t", "svirt_lxc_net_t"))
	want("svirt_lxc_net_t", "")
	write("usr/share/containers/selinux/contexts", fedora)
	want("container_t", "")
	write("usr/share/containers/selinux/contexts", "process = x\n")
	want("", `/usr/share/containers/selinux/contexts: process: "x": not USER:ROLE:TYPE:LEVEL`)
	write("usr/share/containers/selinux/contexts", strings.Repeat("#", maxFile+1))
	want("", "/usr/share/containers/selinux/contexts: ... 1048576 bytes")
}

func TestSensitivity(t *testing.T) {
	for level, want := range map[string]string{"s0": "s0", "s0:c1": "s0", "s1-s15:c0.c1023": "s1", "": ""} {
		if got := (Context{Level: level}).Sensitivity(); got != want {
			t.Errorf("%q: %q", level, got)
		}
	}
}

// Each pair is another, of two categories that there are.
func TestPair(t *testing.T) {
	for n, want := range map[int]string{0: "c0,c1", 1: "c0,c2", 2: "c1,c2", 3: "c0,c3", Pairs - 1: "c1022,c1023"} {
		if got := Pair(n); got != want {
			t.Errorf("%d: %s; want %s", n, got, want)
		}
	}
	seen := map[string]bool{}
	for n := range 50000 {
		if pair := Pair(n); seen[pair] {
			t.Fatalf("%d: %s was another's", n, pair)
		} else {
			seen[pair] = true
		}
	}
}

// What is read can be written into a mount's options and read again.
func FuzzContainers(f *testing.F) {
	f.Add(fedora)
	f.Add("process=a:b:c\nfile=d:e:f:s0-s1:c1.c3\n")
	f.Add("process = \"a:b:c:s0\"\nfile = \"a:b:c:s0\",x=\"y\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseContainers(text)
		if err != nil {
			return
		}
		for _, context := range []Context{c.Process, c.File, c.Image} {
			s := context.String()
			if strings.ContainsFunc(s, func(r rune) bool {
				return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"'\=%$`, r)
			}) || s[0] == '-' {
				t.Errorf("%q is taken for a context", s)
			}
			if again, err := Parse(s); err != nil || again != context {
				t.Errorf("%q: %v, %v", s, again, err)
			}
		}
	})
}

// contextOf reads a file's context, as the file system has it: on a host without SELinux any value
// can be stored.
func contextOf(t *testing.T, name string) string {
	t.Helper()
	value := make([]byte, 100)
	n, err := unix.Lgetxattr(name, attribute, value)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(value[:n]), "\x00")
}

// All that is in a directory gets the context, and nothing that a link in it leads to.
func TestSetTree(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	c := Context{"u", "r", "t", "s0:c1,c2"}
	for _, err := range []error{
		os.MkdirAll(dir+"/a/b", 0o755), os.WriteFile(dir+"/a/b/file", nil, 0),
		os.WriteFile(outside+"/file", nil, 0o600),
		os.Symlink(outside, dir+"/a/link"), os.Symlink(outside+"/file", dir+"/a/b/link"),
		unix.Mkfifo(dir+"/a/fifo", 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := SetTree(dir, c); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a", "a/b", "a/b/file", "a/b/link", "a/link", "a/fifo"} {
		if got := contextOf(t, filepath.Join(dir, name)); got != c.String() {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, name := range []string{"", "file"} {
		if got := contextOf(t, filepath.Join(outside, name)); got == c.String() {
			t.Errorf("what a link leads to: %q has it", name)
		}
	}
	other := c
	other.Level = "s0"
	if err := SetTree(dir+"/a/b/file", other); err != nil || contextOf(t, dir+"/a/b/file") != other.String() ||
		contextOf(t, dir+"/a/b") != c.String() {
		t.Error("a file alone:", err)
	}
	if err := EnsureTree(dir, c); err != nil || contextOf(t, dir+"/a/b/file") != other.String() {
		t.Error("a tree that has the context was walked:", err)
	}
	if err := EnsureTree(dir, other); err != nil || contextOf(t, dir+"/a/b") != other.String() {
		t.Error("a tree that has another was not:", err)
	}
}
