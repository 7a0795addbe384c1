package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every verb and flag of rkt 1.30 is taken as it is, or docs/rkt-1.30.md says why not.
// testdata/rkt-1.30.txt has them all. A line is tried by asking for help after it: programs read
// their flags in order, and say of the first that they do not know that they don't.
func TestRkt130(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir+"/", "../rkt...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile("testdata/rkt-1.30.txt")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/rkt-1.30.md")
	if err != nil {
		t.Fatal(err)
	}
	// what the page says of "!" and "~": the first column of the table below each heading
	tables := map[string][]string{}
	section := ""
	for line := range strings.Lines(string(page)) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			section = map[string]string{"Refused": "!", "Taken, without effect": "~"}[strings.TrimSpace(heading)]
		}
		if cells := strings.Split(line, "|"); len(cells) > 2 && section != "" && strings.Contains(cells[1], "`") {
			for i, word := range strings.Split(cells[1], "`") {
				if i%2 == 1 {
					tables[section] = append(tables[section], word)
				}
			}
		}
	}
	seen := map[string]bool{}
	taken := 0
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		mark := ""
		if words[0] == "!" || words[0] == "~" {
			mark, words = words[0], words[1:]
		}
		if mark != "" {
			var entry string
			for _, name := range tables[mark] {
				if about(name, words) {
					entry = name
				}
			}
			if entry == "" {
				t.Errorf("%s: docs/rkt-1.30.md does not say that it is %s", strings.Join(words, " "), mark)
			}
			seen[mark+entry] = true
		}
		for _, args := range spellings(words) {
			if slices.Contains([]string{"version", "help", "completion"}, args[0]) { // their own whole command lines
			} else if i := slices.IndexFunc(args, func(s string) bool { return !strings.HasPrefix(s, "--") }); i >= 0 ||
				mark == "!" {
				args = append(args, "--help")
			} else {
				args = append(args, "list", "--help") // a global flag
			}
			cmd := exec.Command(filepath.Join(dir, "rkt"), args...)
			cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
			out, err := cmd.CombinedOutput()
			status := cmd.ProcessState.ExitCode()
			if mark == "!" && (status != 254 || strings.Count(string(out), "\n") != 1) || mark != "!" && status != 0 {
				t.Errorf("rkt %s: %v\n%.300s", strings.Join(args, " "), err, out)
			}
			taken++
		}
	}
	for mark, names := range tables {
		for _, name := range names {
			if !seen[mark+name] {
				t.Errorf("docs/rkt-1.30.md: %s: not in testdata/rkt-1.30.txt as %s", name, mark)
			}
		}
	}
	if taken < 300 {
		t.Errorf("only %d command lines", taken)
	}
	t.Logf("%d command lines", taken)
}

// about reports whether an entry of the page, such as "rkt attach", "--no-overlay" or
// "--stdin=tty", is about a line.
func about(entry string, words []string) bool {
	if verb, ok := strings.CutPrefix(entry, "rkt "); ok {
		return words[0] == verb
	}
	flag, value, _ := strings.Cut(entry, "=")
	i := slices.Index(words, flag)
	return i >= 0 && (value == "" || slices.Contains(words[i:], value))
}

// spellings are the forms in which a flag may be given: with its value after a "=" or in the next
// word.
func spellings(words []string) [][]string {
	n := len(words)
	switch {
	case n > 1 && strings.HasPrefix(words[n-2], "--"):
		return [][]string{words, append(slices.Clone(words[:n-2]), words[n-2]+"="+words[n-1])}
	case strings.HasPrefix(words[n-1], "--") && !strings.Contains(words[n-1], "="):
		return [][]string{words, append(slices.Clone(words[:n-1]), words[n-1]+"=true")}
	}
	return [][]string{words}
}
