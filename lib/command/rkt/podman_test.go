package rkt

import (
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// Each of podman's commands is one of ours, or is answered with what to type instead, as the table
// of the page says.
func TestPodman(t *testing.T) {
	out, err := exec.Command("podman", "--help").Output()
	if err != nil {
		t.Fatalf("%v: make deps installs podman", err)
	}
	_, text, _ := strings.Cut(string(out), "Available Commands:\n")
	text, _, _ = strings.Cut(text, "\n\n")
	commands := regexp.MustCompile(`(?m)^ +([a-z-]+)`).FindAllStringSubmatch(text, -1)
	if len(commands) < 50 {
		t.Fatalf("found %d commands:\n%s", len(commands), out)
	}
	ours := verbs()
	for _, m := range commands {
		if others[m[1]] == "" && !slices.Contains(ours, m[1]) {
			t.Errorf("podman %s: has no answer", m[1])
		}
	}

	want := "| podman | here |\n|---|---|\n"
	for _, verb := range slices.Sorted(maps.Keys(others)) {
		if !slices.Contains([]string{"api-service", "app", "fly"}, verb) { // rkt 1.30's
			want += fmt.Sprintf("| `%s` | %s |\n", verb, others[verb])
		}
	}
	testkit.Generated(t, "../../../docs/from-podman.md", "<!-- made of lib/command/rkt/others.go -->\n",
		"<!-- end of commands -->\n", func(string) string { return want })
}
