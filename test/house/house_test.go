// Package house holds the rules that the code keeps to, as tests.
package house

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// heavy are modules that cost milliseconds at every start; who may link which.
var heavy = map[string][]string{
	"github.com/appc/spec": {"rkt-fetch", "rkt-image", "rkt-prepare", "rkt-enter", "rkt-export",
		"rkt-metadata", "rkt-trust", "rkt-unit",
		"rkt-update"},
	"github.com/containernetworking/cni":     {"rkt-net"},
	"github.com/google/go-containerregistry": {"rkt-fetch"},
	"github.com/ProtonMail/go-crypto":        {"rkt-fetch", "rkt-trust"},
	"net/http":                               {"rkt-fetch", "rkt-trust", "rkt-metadata"},
	"github.com/vishvananda/netlink":         {},
	"github.com/rkt-toolkit/rkt/lib/testkit": {},
	"github.com/rogpeppe/go-internal":        {},

	"github.com/rkt-toolkit/rkt/lib/command/all": {},
}

// sizes are the most that a program may weigh, in MiB, stripped.
var sizes = map[string]int64{"rkt-fetch": 12, "rkt-trust": 9, "rkt-metadata": 8}

const otherSize = 6

func programs(t *testing.T) []string {
	t.Helper()
	mains, err := filepath.Glob("../../rkt*/main.go")
	if err != nil || len(mains) < 8 {
		t.Fatalf("found the programs %v: %v", mains, err)
	}
	var names []string
	for _, main := range mains {
		names = append(names, filepath.Base(filepath.Dir(main)))
	}
	return names
}

func TestLinked(t *testing.T) {
	for _, program := range programs(t) {
		cmd := exec.Command("go", "list", "-deps", "./"+program)
		cmd.Dir = "../.."
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		for module, users := range heavy {
			links := slices.ContainsFunc(strings.Fields(string(out)),
				func(p string) bool { return p == module || strings.HasPrefix(p, module+"/") })
			if links && !slices.Contains(users, program) {
				t.Errorf("%s links %s, which only %v may", program, module, users)
			}
		}
	}
}

func TestSize(t *testing.T) {
	dir := t.TempDir()
	for _, program := range programs(t) {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir+"/", "./"+program)
		cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
		info, err := os.Stat(filepath.Join(dir, program))
		if err != nil {
			t.Fatal(err)
		}
		limit := sizes[program]
		if limit == 0 {
			limit = otherSize
		}
		if info.Size() > limit<<20 {
			t.Errorf("%s: %d bytes, more than %d MiB", program, info.Size(), limit)
		}
	}
}

// Only lib/cli prints, exits, or looks at the command line; only main packages and tests do so
// besides.
func TestLibIsQuiet(t *testing.T) {
	err := filepath.WalkDir("../../lib", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
			strings.Contains(path, "/lib/cli/") || strings.Contains(path, "/lib/testkit/") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, word := range []string{"os.Exit(", "os.Args", "fmt.Print", "log.Print", "panic("} {
			if strings.Contains(string(text), word) {
				t.Errorf("%s has %s", path, word)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// around finds what only lib/cli looks at: the command line, the environment and the standard
// streams.
var around = regexp.MustCompile(`\bos\.(Args|Stdin|Stdout|Stderr|Getenv|LookupEnv|Environ|Setenv|Unsetenv)\b`)

// No program, and no package under lib, reads the command line, the environment or the standard
// streams but through lib/cli. Besides, rkt-stage2, which does without it, does, and who looks for
// a program in $PATH.
func TestThroughCLI(t *testing.T) {
	if !around.MatchString("if os.Getenv(") {
		t.Fatal("finds nothing")
	}
	except := regexp.MustCompile(`^(lib/(cli|testkit|stage2)/|lib/host/program/program\.go$|rkt-stage2/main\.go$)`)
	files := 0
	for _, pattern := range []string{"../../rkt*/*.go", "../../lib/*/*.go", "../../lib/*/*/*.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range found {
			name := strings.TrimPrefix(file, "../../")
			if strings.HasSuffix(name, "_test.go") || except.MatchString(name) {
				continue
			}
			files++
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				code, _, _ := strings.Cut(line, "//")
				if word := around.FindString(code); word != "" {
					t.Errorf("%s has %s: take it from cli.Process", name, word)
				}
			}
		}
	}
	if files < 100 {
		t.Errorf("looked at %d files only", files)
	}
}

// Programs print by the functions of lib/cli, which make text printable. These files print
// constants, and what fmt has quoted.
func TestPrintsByCLI(t *testing.T) {
	quoted := []string{"rkt/rkt.go", "rkt/completion.go", "attach/attach.go", "trust/trust.go"}
	files, err := filepath.Glob("../../lib/command/*/*.go")
	if err != nil || len(files) < 30 {
		t.Fatalf("found %v: %v", files, err)
	}
	direct := regexp.MustCompile(`(fmt\.Fprint(f|ln)?|io\.WriteString)\(p\.Std(out|err)|json\.NewEncoder\(p\.`)
	for _, file := range files {
		name := strings.TrimPrefix(file, "../../lib/command/")
		if strings.HasSuffix(name, "_test.go") || slices.Contains(quoted, name) {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range direct.FindAllString(string(text), -1) {
			t.Errorf("%s: %s: use Say, PrintLine or PrintJSON of cli.Process", name, found)
		}
	}
}

// No program prints colors, so that there is nothing that $NO_COLOR would have to turn off.
func TestNoColors(t *testing.T) {
	color := regexp.MustCompile(`\\(x1b|033|u001b)\[[0-9;]*m`)
	err := filepath.WalkDir("../../lib", func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if found := color.Find(text); found != nil {
			t.Errorf("%s: prints the color %s", path, found)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Each program has a manual page that man can format without a complaint.
func TestManualPages(t *testing.T) {
	man, err := exec.LookPath("groff")
	if err != nil {
		t.Fatal("groff is missing: run make deps, or install Debian's package groff-base")
	}
	dir := t.TempDir()
	if out, err := exec.Command("make", "-C", "../..", "install", "DESTDIR="+dir,
		"PREFIX=/usr").CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	for _, program := range programs(t) {
		page := filepath.Join(dir, "usr/share/man/man1", program+".1")
		text, err := exec.Command(man, "-man", "-Tutf8", "-ww", page).CombinedOutput()
		if err != nil || strings.Contains(string(text), page+":") {
			t.Errorf("%s: %v\n%.300s", page, err, text)
		}
		if !strings.Contains(string(text), "data directory, with images and pods") && program != "rkt-stage2" {
			t.Errorf("%s: the global flags are not in it", page)
		}
	}
}

// The units run the programs where they are installed, and the makefile forgets none.
func TestUnits(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("make", "-C", "../..", "install", "DESTDIR="+dir,
		"PREFIX=/opt/rkt").CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	sources, err := filepath.Glob("../../units/*.*")
	if err != nil || len(sources) < 5 {
		t.Fatalf("found the units %v: %v", sources, err)
	}
	programs := 0
	for _, source := range sources {
		name := filepath.Base(source)
		installed := "systemd/system/" + name
		if kind, ok := strings.CutSuffix(name, ".conf"); ok {
			installed = kind + ".d/" + map[string]string{"sysctl": "10-"}[kind] + "rkt.conf" // settings of others win
		}
		text, err := os.ReadFile(filepath.Join(dir, "opt/rkt/lib", installed))
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(string(text)) {
			if command, ok := strings.CutPrefix(line, "Exec"); ok {
				_, command, _ = strings.Cut(command, "=")
				program := strings.Fields(command)[0]
				if strings.HasSuffix(program, "/bin/sh") {
					fields := strings.Fields(command)
					at := slices.IndexFunc(fields, func(s string) bool { return strings.Contains(s, "/bin/rkt-") })
					if at < 0 {
						continue
					}
					program = fields[at]
				}
				if info, err := os.Stat(filepath.Join(dir, program)); err != nil || info.Mode()&0o111 == 0 ||
					!strings.HasPrefix(program, "/opt/rkt/bin/") {
					t.Errorf("%s: %s: %v", name, program, err)
				}
				programs++
			}
		}
	}
	if programs < 6 {
		t.Errorf("only %d lines run something", programs)
	}
}

// searches is what finds a program by $PATH as package os/exec does: in the working directory, too.
var searches = regexp.MustCompile(`exec\.LookPath\(|exec\.Command(Context)?\((ctx, )?"[^/"]`)

// One function finds the host's programs, and it does not search the working directory.
func TestOneLookPath(t *testing.T) {
	if !searches.MatchString(`exec.Command("ls")`) || !searches.MatchString(`exec.CommandContext(ctx, "ls", "-l")`) {
		t.Fatal("finds nothing")
	}
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if path == "../../test" || path == "../../lib/testkit" {
			return filepath.SkipDir
		}
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if m := searches.Find(text); m != nil {
			t.Errorf("%s: %s...: use lib/host/program", path, m)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// One package opens files where others can make links, and only by its rules.
func TestOneSafeOpen(t *testing.T) {
	err := filepath.WalkDir("../../lib", func(path string, d os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasPrefix(path, "../../lib/host/openat/") {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), "unix.Openat2(") || strings.Contains(string(text), "unix.RESOLVE_") {
			t.Errorf("%s uses openat2(2): use lib/host/openat", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A unit in the documentation whose start may have to fetch an image gives it the time: systemd's
// own limit is 90 seconds, and a start that is cut off fetches again.
func TestDocumentedUnitsHaveTime(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	units := 0
	for _, page := range append(pages, "../../README.md", "../../test/demo.sh") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, unit := range strings.Split(string(text), "[Service]\n")[1:] {
			unit, _, _ = strings.Cut(unit, "\n```")
			unit, _, _ = strings.Cut(unit, "\nUNIT")
			fetches := regexp.MustCompile(`(?m)^ *ExecStartPre=.*/rkt-(fetch|prepare) `).MatchString(unit) ||
				strings.Contains(unit, "Type=notify") && strings.Contains(unit, " run ")
			if !fetches {
				continue
			}
			units++
			if !strings.Contains(unit, "TimeoutStartSec=") {
				t.Errorf("%s: a unit without TimeoutStartSec=:\n%s", page, unit)
			}
		}
	}
	if units < 5 {
		t.Errorf("found %d units that fetch", units)
	}
}

// TestShell: "make shell" has a host with the toolkit and images, and gives back the command's exit
// status.
func TestShell(t *testing.T) {
	out, err := exec.Command("../shell.sh", "sh", "-c", "rkt version && ls /images && exit 3").CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 3 || !strings.Contains(string(out), "rkt Version: ") ||
		!strings.Contains(string(out), "busybox\nredis\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// rooms are the rooms of lib, and what of lib's packages besides its own room each may import. A
// step of a pod's life knows no other step: what two of them need lies below both.
var rooms = []struct {
	room string
	may  []string
}{
	{"host", nil},
	{"config", []string{"host", "poddir"}},
	{"cli", []string{"host", "poddir", "config"}},
	{"image", []string{"host", "config"}},
	{"poddir", []string{"host", "network"}},
	{"network", []string{"host", "poddir"}},
	{"stage1", []string{"host", "poddir", "stage2/app"}},
	{"stage2", []string{"host", "stage1"}},
	{"pod", []string{"host", "config", "image", "poddir", "network", "stage1"}},
	{"command", []string{"host", "config", "cli", "image", "poddir", "network", "pod", "stage1", "stage2"}},
	{"testkit", []string{"host"}},
}

func TestRooms(t *testing.T) {
	const ours = "github.com/rkt-toolkit/rkt/lib/"
	cmd := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./lib/...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/internals.md")
	if err != nil {
		t.Fatal(err)
	}
	below := func(path, room string) bool { return path == room || strings.HasPrefix(path, room+"/") }
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		path := strings.TrimPrefix(words[0], ours)
		if !strings.Contains(string(page), "\n| `lib/"+path+"` | ") {
			t.Errorf("docs/internals.md does not say what lib/%s owns", path)
		}
		at := slices.IndexFunc(rooms, func(r struct {
			room string
			may  []string
		}) bool {
			return below(path, r.room)
		})
		if at < 0 {
			t.Errorf("lib/%s: is in no room; the rooms are in this test and in docs/internals.md", path)
			continue
		}
		for _, imported := range words[1:] {
			imported, local := strings.CutPrefix(imported, ours)
			if !local {
				continue
			}
			switch {
			case rooms[at].room == "pod" && below(imported, "pod"):
				t.Errorf("lib/%s imports lib/%s: a step knows no other", path, imported)
			case below(imported, rooms[at].room):
			case !slices.ContainsFunc(rooms[at].may, func(room string) bool { return below(imported, room) }):
				t.Errorf("lib/%s imports lib/%s, which room %s may not", path, imported, rooms[at].room)
			}
		}
	}
}
