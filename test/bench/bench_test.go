package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// The tables of docs/performance.md are those of docs/performance.json.
func TestPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/performance.json")
	if err != nil {
		t.Fatal(err)
	}
	var report Report
	if err := json.Unmarshal(text, &report); err != nil {
		t.Fatal(err)
	}
	const page, begin = "../../docs/performance.md", "<!-- generated: figures -->\n"
	testkit.Generated(t, page, begin, "<!-- end -->", func(string) string {
		var s strings.Builder
		var facts []string
		for name, value := range report.Host {
			facts = append(facts, "- "+name+": "+value+"\n")
		}
		slices.Sort(facts)
		s.WriteString("Measured on:\n\n" + strings.Join(facts, ""))
		for _, g := range report.Groups {
			s.WriteString("\n" + g.markdown())
		}
		return s.String()
	})
}

// A ratio that is a quarter worse than the recorded one is an error, and so is nothing to compare.
func TestCompare(t *testing.T) {
	report := func(rkt float64) Report {
		return Report{Groups: []Result{{Name: "start", targets: []Target{{"rkt", "podman", 0.5}},
			Entries: []Figures{{Name: "rkt", Median: rkt}, {Name: "podman", Median: 100}}}}}
	}
	dir := t.TempDir()
	text, err := json.Marshal(report(40))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "performance.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := report(49).compare(dir); err != nil {
		t.Error(err)
	}
	if err := report(51).compare(dir); err == nil {
		t.Error("0.51 passes, where 0.40 was recorded")
	}
	other := report(40)
	other.Groups[0].Name = "other"
	if err := other.compare(dir); err == nil {
		t.Error("nothing was compared, and that passes")
	}
}

// Targets name entries of their group.
func TestGroups(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range groups {
		if seen[g.Name] {
			t.Errorf("two groups %s", g.Name)
		}
		seen[g.Name] = true
		var names []string
		for _, e := range g.Entries {
			names = append(names, e.Name)
		}
		for _, target := range g.Targets {
			if !slices.Contains(names, target.Of) || target.To != "" && !slices.Contains(names, target.To) {
				t.Errorf("%s: target of %s", g.Name, fmt.Sprint(target))
			}
		}
	}
}
