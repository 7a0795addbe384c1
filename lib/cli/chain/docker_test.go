package chain

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/cli"
)

// Each flag of "podman run" is one of ours, or is answered with what to write instead, as the table
// of the page says.
func TestPodman(t *testing.T) {
	out, err := exec.Command("podman", "run", "--help").Output()
	if err != nil {
		t.Fatalf("%v: make deps installs podman", err)
	}
	flags := regexp.MustCompile(`(?m)^ +(?:-([a-zA-Z]), |    )--([a-z0-9-]+)`).FindAllStringSubmatch(string(out), -1)
	if len(flags) < 100 {
		t.Fatalf("found %d flags:\n%s", len(flags), out)
	}
	ours := cli.Known("rkt-prepare", "rkt-net", "rkt-run-prepared", "rkt run", "app", "")
	var same []string
	for _, m := range flags {
		for _, name := range m[1:] {
			switch {
			case name == "" || name == "h" || name == "help" || name == "c": // the last one is mostly a shell's, as unknown says
			case ours.Lookup(name) == nil && dockers(cli.UnknownFlag{Typed: "--" + name}) == nil:
				t.Errorf("podman run --%s: has no answer", name)
			case ours.Lookup(name) != nil && len(name) > 1:
				same = append(same, "`--"+name+"`")
			}
		}
	}
	slices.Sort(same)

	const page, begin, end = "../../../docs/from-podman.md", "<!-- made of lib/cli/chain/docker.go -->\n", "<!-- end of flags -->\n"
	old, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(old), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s: has no place for the table", page)
	}
	want := "| podman run | here |\n|---|---|\n| " + strings.Join(same, " ") + " | the same |\n"
	for _, row := range docker {
		var names []string
		for name := range strings.SplitSeq(row.flags, ", ") {
			dashes := "--"
			if len(name) == 1 || name == "it" || name == "ti" {
				dashes = "-"
			}
			names = append(names, "`"+dashes+name+"`")
		}
		want += fmt.Sprintf("| %s | %s |\n", strings.Join(names, " "), strings.ReplaceAll(row.here, "|", "\\|"))
	}
	if got == want {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("%s: is not what docker.go says (UPDATE=1 writes it)", page)
	}
	if err := os.WriteFile(page, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
