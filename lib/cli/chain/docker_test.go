package chain

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/testkit"
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
			// the last one is mostly a shell's, as unknown says
			case name == "" || name == "h" || name == "help" || name == "c":
			case ours.Lookup(name) == nil && dockers(cli.UnknownFlag{Typed: "--" + name}) == nil:
				t.Errorf("podman run --%s: has no answer", name)
			case ours.Lookup(name) != nil && len(name) > 1:
				same = append(same, "`--"+name+"`")
			}
		}
	}
	slices.Sort(same)

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
	testkit.Generated(t, "../../../docs/from-podman.md", "<!-- made of lib/cli/chain/docker.go -->\n",
		"<!-- end of flags -->\n", func(string) string { return want })
}
