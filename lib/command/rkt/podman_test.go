package rkt

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
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

	const page, begin, end = "../../../docs/from-podman.md", "<!-- made of lib/command/rkt/others.go -->\n", "<!-- end of commands -->\n"
	old, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(old), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s: has no place for the table", page)
	}
	want := "| podman | here |\n|---|---|\n"
	for _, verb := range slices.Sorted(maps.Keys(others)) {
		if !slices.Contains([]string{"api-service", "app", "fly"}, verb) { // rkt 1.30's
			want += fmt.Sprintf("| `%s` | %s |\n", verb, others[verb])
		}
	}
	if got == want {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("%s: is not what others.go says (UPDATE=1 writes it)", page)
	}
	if err := os.WriteFile(page, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
