package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Group are commands that do the same job, and are measured in turn, since the speed of a machine
// changes from minute to minute.
type Group struct {
	Name   string
	Title  string
	Unit   string // of the figures: ms, s, MB
	Rounds int
	Long   bool // takes minutes
	Entries
	Targets []Target
}

// Entries are the commands of a group.
type Entries []Entry

// Entry is one command.
type Entry struct {
	Name string
	// Before and After are shell lines around the command, which are not timed.
	Before, Command, After string
	// Needs is a program without which the entry is left out.
	Needs string
	// Figure, if there is one, is what is measured instead of the wall time of the command.
	Figure func(b *bench, output string, took time.Duration) (float64, error)
	// If it fails, the entry is left out.
	If string
}

// Target is a ratio of medians that is asked for, or a median.
type Target struct {
	Of, To string // names of entries; To is "" for the median itself
	Most   float64
}

func (t Target) name() string { return strings.TrimSuffix(t.Of+" to "+t.To, " to ") }

// Figures are what was measured of an entry.
type Figures struct {
	Name    string  `json:"name"`
	Command string  `json:"command"`
	Median  float64 `json:"median"`
	Low     float64 `json:"lower_quartile"`
	High    float64 `json:"upper_quartile"`
}

// bench is where it is measured.
type bench struct {
	dir   string
	env   []string
	short bool
}

// newBench makes in a directory what the commands of groups need.
func newBench(dir string, short bool) (*bench, error) {
	b := &bench{dir: dir, short: short}
	b.env = append(os.Environ(), "RKT_INSECURE_OPTIONS=image", "LC_ALL=C", "B="+dir)
	_, err := b.shell(setup)
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() {
	_, _ = b.shell(teardown)
}

// shell runs a line of the shell and returns its standard output.
func (b *bench) shell(line string) (string, error) {
	cmd := exec.Command("bash", "-c", line)
	cmd.Dir, cmd.Env = b.dir, b.env
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", line, err, said.String())
	}
	return out.String(), nil
}

// measure runs the commands of a group in turn. One round before does not count.
func (b *bench) measure(g Group) (Result, error) {
	result := Result{Name: g.Name, Title: g.Title, Unit: g.Unit, Rounds: g.Rounds, targets: g.Targets}
	if b.short {
		result.Rounds = max(5, g.Rounds/4)
	}
	var entries Entries
	for _, e := range g.Entries {
		if e.Needs != "" {
			if _, err := exec.LookPath(e.Needs); err != nil {
				result.left = append(result.left, e.Name+": no "+e.Needs)
				continue
			}
		}
		if e.If != "" {
			if _, err := b.shell(e.If); err != nil {
				result.left = append(result.left, e.Name)
				continue
			}
		}
		entries = append(entries, e)
	}
	found := make([][]float64, len(entries))
	for round := range result.Rounds + 1 {
		for i, e := range entries {
			figure, err := b.once(e)
			if err != nil {
				return result, err
			}
			if round > 0 {
				found[i] = append(found[i], figure)
			}
		}
	}
	for i, e := range entries {
		slices.Sort(found[i])
		at := func(part float64) float64 { return found[i][int(part*float64(len(found[i])-1)+0.5)] }
		result.Entries = append(result.Entries,
			Figures{Name: e.Name, Command: e.Command, Median: at(0.5), Low: at(0.25), High: at(0.75)})
	}
	return result, nil
}

// once runs an entry one time, and returns milliseconds, or what its Figure makes of it.
func (b *bench) once(e Entry) (float64, error) {
	if e.Before != "" {
		if _, err := b.shell(e.Before); err != nil {
			return 0, err
		}
	}
	// The shell that starts the command is not timed: it is here before.
	cmd := exec.Command("bash", "-c", "read -r; exec "+e.Command)
	if strings.ContainsAny(e.Command, "|;&") {
		cmd = exec.Command("bash", "-c", "read -r; "+e.Command)
	}
	cmd.Dir, cmd.Env = b.dir, b.env
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	begin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	start := time.Now()
	_, err = begin.Write([]byte("\n"))
	err = errors.Join(err, begin.Close(), cmd.Wait())
	took := time.Since(start)
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s%s", e.Command, err, out.String(), said.String())
	}
	figure := float64(took.Microseconds()) / 1000
	if e.Figure != nil {
		if figure, err = e.Figure(b, fmt.Sprintf("%d\n%s", start.UnixNano(), out.String()), took); err != nil {
			return 0, fmt.Errorf("%s: %w", e.Command, err)
		}
	}
	if e.After != "" {
		if _, err := b.shell(e.After); err != nil {
			return 0, err
		}
	}
	return figure, nil
}

// hostFacts say where it was measured.
func hostFacts() map[string]string {
	facts := map[string]string{}
	for name, line := range map[string]string{
		"linux":   "uname -r",
		"systemd": "systemctl --version | head -1",
		"podman":  "podman --version",
		"crun":    "crun --version | head -1",
		"debian":  "cat /etc/debian_version",
		"cpus":    "nproc",
		"rkt":     "rkt version | head -1",
	} {
		out, err := exec.Command("bash", "-c", line).Output()
		if err == nil {
			facts[name] = strings.TrimSpace(string(out))
		}
	}
	return facts
}
