package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/rkt-toolkit/rkt/test/pictures"
)

// Report is what one run has found. It is performance.json.
type Report struct {
	Host   map[string]string `json:"host"`
	Groups []Result          `json:"groups"`
}

// Result is what was found of a group.
type Result struct {
	Name    string    `json:"name"`
	Title   string    `json:"title"`
	Unit    string    `json:"unit"`
	Rounds  int       `json:"rounds"`
	Entries []Figures `json:"entries"`

	left    []string // out
	targets []Target
}

// of returns the figures of an entry.
func (r Result) of(name string) (Figures, bool) {
	for _, f := range r.Entries {
		if f.Name == name {
			return f, true
		}
	}
	return Figures{}, false
}

// ratio is that of two medians; ok is false if one was not measured.
func (r Result) ratio(of, to string) (ratio float64, ok bool) {
	a, hasA := r.of(of)
	if to == "" {
		return a.Median, hasA
	}
	b, hasB := r.of(to)
	if !hasA || !hasB || b.Median == 0 {
		return 0, false
	}
	return a.Median / b.Median, true
}

func (r Result) print(to io.Writer) {
	fmt.Fprintf(to, "== %s (%s), %d rounds in turn\n", r.Title, r.Unit, r.Rounds)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tmedian\tquartiles\tcommand")
	for _, f := range r.Entries {
		fmt.Fprintf(w, "%s\t%.3g\t%.3g to %.3g\t%s\n", f.Name, f.Median, f.Low, f.High, f.Command)
	}
	w.Flush()
	for _, t := range r.targets {
		if ratio, ok := r.ratio(t.Of, t.To); ok {
			verdict := "met"
			if ratio > t.Most {
				verdict = "MISSED"
			}
			fmt.Fprintf(to, "%s: %.2f, target at most %.2f: %s\n", t.name(), ratio, t.Most, verdict)
		}
	}
	for _, name := range r.left {
		fmt.Fprintf(to, "left out: %s\n", name)
	}
	fmt.Fprintln(to)
}

const chartTitle = "Milliseconds from the call to the end, medians and quartiles"

// markdown is the table of a group on the page.
func (r Result) markdown() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s (%s, %d rounds in turn):\n\n", r.Title, r.Unit, r.Rounds)
	s.WriteString("| | median | quartiles | command |\n|---|---|---|---|\n")
	for _, f := range r.Entries {
		command := strings.ReplaceAll(f.Command, "|", `\|`)
		fmt.Fprintf(&s, "| %s | %.3g | %.3g to %.3g | `%s` |\n", f.Name, f.Median, f.Low, f.High, command)
	}
	return s.String()
}

// write records the report, and draws the chart of the groups that begin with "start".
func (r Report) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	var bars []pictures.Bar
	for _, g := range r.Groups {
		if !strings.HasPrefix(g.Name, "start") {
			continue
		}
		bars = append(bars, pictures.Bar{Label: g.Title})
		for _, f := range g.Entries {
			bars = append(bars, pictures.Bar{Label: f.Name, Value: f.Median, Low: f.Low, High: f.High})
		}
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "performance.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "pictures/start.svg"), pictures.Chart(chartTitle, bars), 0o644))
}

// worse is by how much a ratio may be worse than the recorded one.
const worse = 1.25

// compare fails if a ratio that has a target is worse than the recorded one.
func (r Report) compare(dir string) error {
	file := filepath.Join(dir, "performance.json")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var then Report
	if err := json.Unmarshal(text, &then); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var errs []error
	compared := 0
	for _, g := range r.Groups {
		for _, t := range g.targets {
			now, ok := g.ratio(t.Of, t.To)
			before, had := 0.0, false
			for _, old := range then.Groups {
				if old.Name == g.Name {
					before, had = old.ratio(t.Of, t.To)
				}
			}
			if !ok || !had {
				continue
			}
			compared++
			if now > before*worse {
				errs = append(errs, fmt.Errorf("%s: %s: %.2f, and it was %.2f", g.Name, t.name(), now, before))
			}
		}
	}
	if compared == 0 {
		return fmt.Errorf("%s: has no ratio that was measured now", file)
	}
	fmt.Printf("compared %d ratios with the recorded ones\n", compared)
	return errors.Join(errs...)
}
