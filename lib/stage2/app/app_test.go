package app

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/testkit"
	"golang.org/x/sys/unix"
)

func written(t *testing.T, config *specs.Spec) string {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, string(text), 0o600)
}

func file(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func config(t testing.TB) *specs.Spec {
	t.Helper()
	app := stage1.App{Name: "a", Exec: []string{"/bin/a", "b"}, WorkingDir: "/", UID: 5,
		Capabilities: []string{"CAP_KILL"},
		Environment:  []stage1.Variable{{Name: "A", Value: "b"}, {Name: "NOTIFY_SOCKET", Value: "own"}},
		PreStart:     []string{"/pre"},
		Isolation:    stage1.Isolation{Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}}}}
	c, err := app.Config()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A configuration that this program would not follow to the letter is refused.
func TestReadConfig(t *testing.T) {
	if _, err := readConfig(written(t, config(t))); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*specs.Spec){
		"not version 1":                        func(c *specs.Spec) { c.Version = "2.0" },
		"no process, no root":                  func(c *specs.Spec) { c.Process = nil },
		"names no program":                     func(c *specs.Spec) { c.Process.Args = nil },
		"not an absolute path":                 func(c *specs.Spec) { c.Process.Cwd = "x" },
		"not NAME=VALUE":                       func(c *specs.Spec) { c.Process.Env = []string{"=x"} },
		"ID that is none":                      func(c *specs.Spec) { c.Process.User.UID = 1<<32 - 1 },
		"none are said":                        func(c *specs.Spec) { c.Process.Capabilities = nil },
		"hooks: not supported":                 func(c *specs.Spec) { c.Hooks = &specs.Hooks{} },
		"linux.resources: not supported":       func(c *specs.Spec) { c.Linux.Resources = &specs.LinuxResources{} },
		"process.scheduler: not supported":     func(c *specs.Spec) { c.Process.Scheduler = &specs.Scheduler{} },
		"not a new mount namespace":            func(c *specs.Spec) { c.Linux.Namespaces = nil },
		"\"x\": not an absolute path":          func(c *specs.Spec) { c.Linux.MaskedPaths = []string{"x"} },
		"\"dev/null\": not an absolute path":   func(c *specs.Spec) { c.Linux.Devices[0].Path = "dev/null" },
		"type \"d\", number 1:3: not a device": func(c *specs.Spec) { c.Linux.Devices[0].Type = "d" },
		"number 1:-3: not a device":            func(c *specs.Spec) { c.Linux.Devices[0].Minor = -3 },
		"\"../proc\": not an absolute path":    func(c *specs.Spec) { c.Mounts[0].Destination = "../proc" },
	} {
		c := config(t)
		change(c)
		if _, err := readConfig(written(t, c)); !testkit.Says(err, want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	for _, text := range []string{"", "null", "[]", "{}", `{"ociVersion":"1.2.0","new":1}`, `{"ociVersion":"1.2.0"`} {
		if _, err := readConfig(file(t, text, 0o600)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if _, err := readConfig("/no/such/file"); !os.IsNotExist(err) {
		t.Error(err)
	}
}

func FuzzReadConfig(f *testing.F) {
	text, _ := json.Marshal(config(f))
	f.Add(string(text))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := readConfig(file(t, text, 0o600))
		if err != nil {
			return
		}
		if argv, err := command(c, ""); err != nil || len(argv) == 0 {
			t.Fatalf("%q: %q, %v", text, argv, err)
		}
		processOf(c, nil)
		environment(c, nil)
	})
}

func TestCommand(t *testing.T) {
	c := config(t)
	for handler, want := range map[string]string{"": "/bin/a b", stage1.PreStart: "/pre"} {
		if argv, err := command(c, handler); err != nil || strings.Join(argv, " ") != want {
			t.Errorf("%q: %q, %v", handler, argv, err)
		}
	}
	if argv, err := command(c, stage1.PostStop); err == nil {
		t.Errorf("one that is not there: %q", argv)
	}
}

// An app is told what its configuration says and what its init tells it, and nothing else.
func TestEnvironment(t *testing.T) {
	c := config(t)
	own := []string{"LISTEN_FDS=2", "PATH=/sbin", "NOTIFY_SOCKET=init's", "TERM=x", "INVOCATION_ID=1"}
	if got := environment(c, own); !slices.Equal(got, []string{"A=b", "NOTIFY_SOCKET=own", "LISTEN_FDS=2"}) {
		t.Errorf("%q", got)
	}
	c.Process.Terminal = true
	if got := environment(c, own); !slices.Contains(got, "TERM=x") {
		t.Errorf("%q", got)
	}
}

func TestProcess(t *testing.T) {
	c := config(t)
	p, err := processOf(c, nil)
	if err != nil || p.UID != 5 || p.Bounding != 1<<5 || len(p.Limits) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	c.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NONE"}}
	if _, err := processOf(c, nil); !testkit.Says(err, "RLIMIT_NONE") {
		t.Error(err)
	}
	c.Process.Capabilities.Bounding = []string{"CAP_NONE"}
	if _, err := processOf(c, nil); !testkit.Says(err, "CAP_NONE") {
		t.Error(err)
	}
}

// Why a program can't be executed is said before the attempt, or, where the kernel may know better,
// after it.
func TestExecutable(t *testing.T) {
	elfOf := func(machine uint16, loader string) string {
		b := append([]byte("\x7fELF\x02\x01\x01\x00"), make([]byte, 8)...)
		b = binary.LittleEndian.AppendUint16(b, 2) // ET_EXEC
		b = binary.LittleEndian.AppendUint16(b, machine)
		b = binary.LittleEndian.AppendUint32(b, 1)
		for _, n := range []uint64{0, 64, 0} { // entry, program headers, section headers
			b = binary.LittleEndian.AppendUint64(b, n)
		}
		b = binary.LittleEndian.AppendUint32(b, 0)
		for _, n := range []uint16{64, 56, 1, 64, 0, 0} {
			b = binary.LittleEndian.AppendUint16(b, n)
		}
		b = binary.LittleEndian.AppendUint32(b, 3) // PT_INTERP
		b = binary.LittleEndian.AppendUint32(b, 4)
		for _, n := range []uint64{120, 0, 0, uint64(len(loader) + 1), uint64(len(loader) + 1), 1} {
			b = binary.LittleEndian.AppendUint64(b, n)
		}
		return string(b) + loader + "\x00"
	}
	const x86, arm = 62, 183
	plain := file(t, "text\n", 0o755)
	for _, c := range []struct {
		text         string
		mode         os.FileMode
		format, want string
	}{
		{"#!/bin/sh\n", 0o755, "", ""},
		{"#!/bin/sh\n", 0o644, "", "not executable: nobody"},
		{"#! \t/bin/sh -e\nexit", 0o711, "", ""},
		{"#!/no/such arg\n", 0o755, "", "its interpreter /no/such: no such file"},
		{"#!/bin/sh\r\n", 0o755, "", "end with CR LF ... interpreter \"/bin/sh\\r\""},
		{"#!\n", 0o755, "its first line names no interpreter", ""},
		{"#!" + plain, 0o755, "neither a program nor a script", ""},
		{"", 0o755, "is empty", ""},
		{"echo hello\n", 0o755, "neither a program nor a script", ""},
		{elfOf(x86, "/lib/ld-none.so"), 0o755, "", "its loader /lib/ld-none.so: no such file or directory: the image " +
			"lacks the C library"},
		{elfOf(x86, "/bin/sh"), 0o755, "", ""},
		{elfOf(arm, "/lib/ld-none.so"), 0o755, "a program for another kind of machine (EM_AARCH64; this is amd64)", ""},
		{"\x7fELF", 0o755, "a damaged ELF file", ""},
	} {
		format, err := executable(file(t, c.text, c.mode), 0)
		if !testkit.Says(err, c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
		if !strings.HasPrefix(format, c.format) || c.format == "" && format != "" {
			t.Errorf("%q: is %q, want %q", c.text, format, c.format)
		}
	}
	if _, err := executable(t.TempDir(), 0); !testkit.Says(err, "not a file") {
		t.Error(err)
	}
	if _, _, err := findProgram("none", []string{"PATH=/bin"}); !testkit.Says(err,
		"none: not found in the app's $PATH") {
		t.Error(err)
	}
	if got, _, err := findProgram("sh", []string{"PATH=/no:/bin"}); err != nil || got != "/bin/sh" {
		t.Errorf("%q, %v", got, err)
	}
}

// What a file is explains that the kernel does not know its format, and no other error.
func TestFailure(t *testing.T) {
	f := failureOf("a", "/x", "a picture")
	for errno, want := range map[unix.Errno]string{
		unix.ENOEXEC: `rkt: app "a": /x: a picture: exec format error`,
		unix.EACCES:  `rkt: app "a": /x: permission denied`,
	} {
		for range 2 { // whatever was asked before
			if got := f.Exec(errno); got != want {
				t.Errorf("%s: %q, want %q", unix.ErrnoName(errno), got, want)
			}
		}
	}
}
