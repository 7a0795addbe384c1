package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const oneBinary = `package main

import (
	"os"
	"path/filepath"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/all"
)

func main() {
	for _, c := range all.Programs {
		if c.Name == filepath.Base(os.Args[0]) {
			cli.Main(c)
		}
	}
	os.Exit(99)
}
`

// Every program can be called from one binary: another main, outside of the programs' directories,
// chooses a Command by its name.
func TestOneBinary(t *testing.T) {
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "all")
	if err := os.WriteFile(source, []byte(oneBinary), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", binary, source)
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, program := range programs(t) {
		link := filepath.Join(dir, program)
		if err := os.Symlink(binary, link); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(link, "--help").Output(); err != nil || !strings.HasPrefix(string(out),
			"Usage: "+program) {
			t.Errorf("%s --help: %v\n%.200s", program, err, out)
		}
	}
	for _, c := range []struct {
		line   string
		status int
		says   string
	}{
		{"rkt-list --no-legend", 0, ""},
		{"rkt-stop nosuch", 254, "rkt-stop: no matches found for \"nosuch\": no such pod\n"},
		{"rkt list --format=yaml", 254, `rkt-list: --format="yaml": unknown format; use text, json or json-pretty` +
			"\n"},
		{"rkt-stage2 nosuch", 254, "unknown subcommand (--help lists them)\n"},
	} {
		words := strings.Fields(c.line)
		cmd := exec.Command(filepath.Join(dir, words[0]), words[1:]...)
		cmd.Env = []string{"PATH=" + dir, "RKT_DIR=" + dir + "/data", "RKT_LOCAL_CONFIG=" + dir}
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != c.status || !strings.HasSuffix(string(out), c.says) {
			t.Errorf("%s: %s\n%s", c.line, cmd.ProcessState, out)
		}
	}
}
