package poddir

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Each set of facts is one state's, and each state but Deleting has some.
func TestStatesAreComplete(t *testing.T) {
	seen := map[State]bool{}
	for bits := range 16 {
		locked, manifest, started, garbage := bits&1 != 0, bits&2 != 0, bits&4 != 0, bits&8 != 0
		var fits []State
		for _, s := range states {
			if s.locked.fits(locked) && s.manifest.fits(manifest) && s.started.fits(started) &&
				s.garbage.fits(garbage) {
				fits = append(fits, s.state)
			}
		}
		if len(fits) != 1 || stateOf(locked, manifest, started, garbage) != fits[0] {
			t.Errorf("locked %v, manifest %v, started %v, garbage %v: %v", locked, manifest, started, garbage, fits)
		}
		seen[fits[0]] = true
	}
	if len(seen) != int(Deleting) {
		t.Errorf("only %v can be", seen)
	}
	for s := Preparing; s < Deleting; s++ {
		out := false
		for to := Preparing; to <= Deleting; to++ {
			out = out || s.May(to)
		}
		if !out || Deleting.May(s) {
			t.Errorf("%v: no way out, or back from where it is deleted", s)
		}
	}
	for _, tr := range transitions {
		if tr.from == tr.to || !tr.from.May(tr.to) {
			t.Errorf("transition %+v", tr)
		}
	}
}

// The picture and the table in docs/pod-lifecycle.md are those of the code. RKT_UPDATE=1 writes
// them.
func TestLifecyclePage(t *testing.T) {
	const page, begin, end = "../../docs/pod-lifecycle.md", "<!-- made of lib/poddir/states.go -->\n", "<!-- end -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s: has no place for the picture", page)
	}
	id := func(s State) string { return strings.ReplaceAll(s.String(), " ", "_") }
	var b strings.Builder
	b.WriteString("\n```mermaid\nstateDiagram-v2\n    [*] --> preparing : rkt-prepare makes the directory, locked\n")
	for _, tr := range transitions {
		fmt.Fprintf(&b, "    %s --> %s : %s %s\n", id(tr.from), id(tr.to), tr.by, tr.how)
	}
	b.WriteString("    deleting --> [*] : rkt-gc\n```\n\n| state | locked | `pod` | `started` | `garbage` | and then " +
		"|\n|---|---|---|---|---|---|\n")
	for _, s := range states {
		var next []string
		for to := Preparing; to <= Deleting; to++ {
			if s.state.May(to) {
				next = append(next, to.String())
			}
		}
		fmt.Fprintf(&b, "| %s |", s.state)
		for _, f := range []fact{s.locked, s.manifest, s.started, s.garbage} {
			fmt.Fprintf(&b, " %s |", [...]string{"", "yes", "no"}[f])
		}
		fmt.Fprintf(&b, " %s |\n", strings.Join(next, ", "))
	}
	b.WriteString("\n")
	if os.Getenv("RKT_UPDATE") != "" {
		if err := os.WriteFile(page, []byte(before+begin+b.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != b.String() {
		t.Errorf("%s: is not what the code says; RKT_UPDATE=1 go test ./lib/poddir -run Lifecycle writes\n%s",
			page, b.String())
	}
}
