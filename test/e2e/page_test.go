package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// page does what a page of the documentation says, from the top to the bottom: it writes each file that a line with its path introduces,
// runs each command after a "# " of a console block, and compares what it prints with the lines that follow, where "…" is anything. What a
// command is to print may take a few seconds to come true.
func page(ts *testscript.TestScript, neg bool, args []string) {
	text, err := os.ReadFile(args[0])
	ts.Check(err)
	lines := strings.Split(string(text), "\n")
	files, commands := 0, 0
	for i := 0; i < len(lines); i++ {
		if m := fileLine.FindStringSubmatch(lines[i]); m != nil {
			i += 2
			var content strings.Builder
			for ; i < len(lines) && (lines[i] == "" || strings.HasPrefix(lines[i], "    ")); i++ {
				content.WriteString(strings.TrimPrefix(lines[i], "    ") + "\n")
			}
			i--
			ts.Check(os.MkdirAll(filepath.Dir(m[1]), 0o755))
			ts.Check(os.WriteFile(m[1], []byte(content.String()), 0o644))
			ts.Check(ts.Exec("systemctl", "daemon-reload"))
			files++
			continue
		}
		if lines[i] != "```console" {
			continue
		}
		for i++; lines[i] != "```"; {
			command, ok := strings.CutPrefix(lines[i], "# ")
			if !ok {
				ts.Fatalf("%s:%d: no command", args[0], i+1)
			}
			at := i + 1
			var want []string
			for i++; lines[i] != "```" && !strings.HasPrefix(lines[i], "# "); i++ {
				want = append(want, lines[i])
			}
			ts.Logf("# %s", command)
			run(ts, args[0], at, command, want)
			commands++
		}
	}
	ts.Logf("%s: %d files, %d commands", args[0], files, commands)
	if commands == 0 {
		ts.Fatalf("%s: nothing to do", args[0])
	}
}

var fileLine = regexp.MustCompile("^`(/[^`]+)`:$")

// example writes one file of a page: example PAGE PATH.
func example(ts *testscript.TestScript, neg bool, args []string) {
	text, err := os.ReadFile(args[0])
	ts.Check(err)
	_, after, found := strings.Cut(string(text), "\n`"+args[1]+"`:\n\n")
	if !found {
		ts.Fatalf("%s: has no %s", args[0], args[1])
	}
	block, _, _ := strings.Cut(after, "\n\n")
	ts.Check(os.MkdirAll(filepath.Dir(args[1]), 0o755))
	ts.Check(os.WriteFile(args[1], []byte(block+"\n"), 0o644))
}

func run(ts *testscript.TestScript, file string, at int, command string, want []string) {
	pattern := regexp.MustCompile("^" + expectation(want) + "$")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		cmd := exec.Command("sh", "-c", command)
		cmd.Env = append(os.Environ(), "SYSTEMD_COLORS=0", "COLUMNS=500")
		out, err := cmd.CombinedOutput()
		out = bytes.TrimRight(out, "\n")
		var got []string
		for line := range strings.Lines(string(out)) {
			got = append(got, squeeze(strings.TrimRight(line, "\r\n")))
		}
		if pattern.MatchString(strings.Join(got, "\n")) && (err == nil || want != nil) {
			return
		}
		again := want != nil && !strings.Contains(command, "systemctl st") && !strings.Contains(command, "pkill")
		if !again || time.Now().After(end) {
			ts.Fatalf("%s:%d: %s: %v\ngot:\n%s\nwant:\n%s", file, at, command, err, out, strings.Join(want, "\n"))
		}
	}
}

// squeeze makes one space of several, and of tabs.
func squeeze(line string) string { return strings.TrimRight(space.ReplaceAllString(line, " "), " ") }

var space = regexp.MustCompile(`[ \t]+`)

// expectation makes a regular expression: a line "…" stands for any lines, and "…" in a line for any text in it.
func expectation(want []string) string {
	var parts []string
	for _, line := range want {
		if line == "…" {
			parts = append(parts, `(?s:.*)`)
			continue
		}
		parts = append(parts, strings.ReplaceAll(regexp.QuoteMeta(squeeze(line)), "…", `.*`))
	}
	text := strings.Join(parts, `\n`)
	text = strings.ReplaceAll(text, `(?s:.*)\n`, `(?s:(?:.*\n)?)`)
	return strings.ReplaceAll(text, `\n(?s:.*)`, `(?s:(?:\n.*)?)`)
}
