package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// Every program can be called from one binary, the toolkit, which chooses a Command by its name.
func TestToolkit(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "toolkit")
	build := exec.Command("go", "build", "-o", binary, "../../toolkit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(binary, "rkt-list", "--help").Output(); err != nil || !strings.HasPrefix(string(out),
		"Usage: rkt-list") {
		t.Errorf("toolkit rkt-list --help: %v\n%.200s", err, out)
	}
	for _, args := range [][]string{nil, {"list"}, {"rkt-stage2"}} {
		cmd := exec.Command(binary, args...)
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 254 || !strings.HasPrefix(string(out),
			"toolkit: ") || !strings.Contains(string(out), "rkt-fetch") {
			t.Errorf("toolkit %q: %s\n%s", args, cmd.ProcessState, out)
		}
	}
	for _, program := range programs(t) {
		if program == "rkt-attach" || program == "rkt-stage2" { // which pods are given
			continue
		}
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
		{"rkt-stop nosuch", 254, `rkt-stop: ... "nosuch"`},
		{"rkt list --format=yaml", 254, `rkt-list: --format="yaml": ... json`},
	} {
		words := strings.Fields(c.line)
		cmd := exec.Command(filepath.Join(dir, words[0]), words[1:]...)
		cmd.Env = []string{"PATH=" + dir, "RKT_DIR=" + dir + "/data", "RKT_LOCAL_CONFIG=" + dir}
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != c.status || !testkit.Has(string(out), c.says) {
			t.Errorf("%s: %s\n%s", c.line, cmd.ProcessState, out)
		}
	}
}
