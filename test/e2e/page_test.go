package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// page does what a page of the documentation says, from the top to the bottom: it writes each file
// that a line with its path introduces, runs each command after a "# " of a console block, and
// compares what it prints with the lines that follow, where "…" is anything. What a command is to
// print may take a few seconds to come true. A block of "console picture" is what a command really
// printed, see picture. With -whole a block that is neither is an error, since nothing would run
// it.
func page(ts *testscript.TestScript, neg bool, args []string) {
	whole := args[0] == "-whole"
	if whole {
		args = args[1:]
	}
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
		if whole && strings.HasPrefix(lines[i], "    ") && strings.TrimSpace(lines[i]) != "" {
			ts.Fatalf("%s:%d: a file without the line that says where it is", args[0], i+1)
		}
		if !strings.HasPrefix(lines[i], "```console") && (!whole || !strings.HasPrefix(lines[i], "```")) {
			continue
		}
		compare := run
		switch lines[i] {
		case "```console":
		case "```console picture":
			if release := os.Getenv(releaseVariable); release != "." && release != "" {
				compare = func(ts *testscript.TestScript, _ string, _ int, command string, _ []string) {
					ts.Check(ts.Exec("sh", "-c", command)) // the picture is of another systemd
				}
				break
			}
			compare = func(ts *testscript.TestScript, file string, at int, command string, want []string) {
				copy(want, picture(ts, file, at, command, want))
			}
		default:
			ts.Fatalf("%s:%d: nothing runs this block", args[0], i+1)
		}
		for i++; lines[i] != "```"; {
			command, ok := strings.CutPrefix(lines[i], "# ")
			if !ok {
				ts.Fatalf("%s:%d: no command", args[0], i+1)
			}
			at := i + 1
			for i++; lines[i] != "```" && !strings.HasPrefix(lines[i], "# "); i++ {
			}
			var want []string
			if i > at {
				want = lines[at:i]
			}
			ts.Logf("# %s", command)
			compare(ts, args[0], at, command, want)
			commands++
		}
	}
	ts.Logf("%s: %d files, %d commands", args[0], files, commands)
	if dir := os.Getenv("RKT_PICTURES"); dir != "" {
		ts.Check(os.WriteFile(filepath.Join(dir, filepath.Base(args[0])), []byte(strings.Join(lines, "\n")), 0o644))
	}
	if commands == 0 {
		ts.Fatalf("%s: nothing to do", args[0])
	}
}

// picture compares an excerpt of what a command prints: lines in a row that are those of the page,
// in any order, except for numbers, UUIDs, lines of trees, and what was cut off. It returns them as
// they are now, for whom make pictures writes them into the page.
func picture(ts *testscript.TestScript, file string, at int, command string, want []string) []string {
	var masked []string
	for _, line := range want {
		masked = append(masked, mask(line))
	}
	slices.Sort(masked)
	var out []byte
	for end := time.Now().Add(waitLimit(20)); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		cmd := exec.Command("sh", "-c", command)
		cmd.Env = append(os.Environ(), "SYSTEMD_COLORS=0", "COLUMNS=118")
		out, _ = cmd.CombinedOutput()
		got := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
		for i := range len(got) - len(want) + 1 {
			var window []string
			for _, line := range got[i : i+len(want)] {
				window = append(window, mask(line))
			}
			slices.Sort(window)
			if slices.Equal(window, masked) {
				return got[i : i+len(want)]
			}
		}
	}
	ts.Fatalf("%s:%d: %s\ngot:\n%s\nwant in it:\n%s", file, at, command, out, strings.Join(want, "\n"))
	return nil
}

// cut is how long a line is that the terminal's width has cut, and which ends with a part of a word
// then.
const cut = 110

func mask(line string) string {
	if last := strings.LastIndexByte(line, ' '); last > 0 && len([]rune(line)) > cut {
		line = line[:last]
	}
	for _, m := range masks {
		line = m.pattern.ReplaceAllString(line, m.by)
	}
	return squeeze(line)
}

var masks = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`[├└│─]`), " "},
	{regexp.MustCompile(`\S*…$`), "…"},
	{regexp.MustCompile(` [RSD](s?l?\+?) `), " S$1 "}, // a process's state
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`^[0-9]{6,}\+? `), "USER "}, // of a pod, in the output of ps(1)
	{regexp.MustCompile(`[0-9]+([.:][0-9]+)?`), "0"},
}

var fileLine = regexp.MustCompile("^`(/[^`]+)`:$")

// example writes one file of a page: example PAGE PATH.
func example(ts *testscript.TestScript, neg bool, args []string) {
	text, err := os.ReadFile(args[0])
	ts.Check(err)
	content, found := files(string(text))[args[1]]
	if !found {
		ts.Fatalf("%s: has no %s", args[0], args[1])
	}
	ts.Check(writeFile(args[1], content))
}

// files are those that a page shows, by their paths.
func files(page string) map[string]string {
	found := map[string]string{}
	path, start := "", 0
	lines := strings.Split(page, "\n")
	for i, line := range lines {
		switch m := fileLine.FindStringSubmatch(line); {
		case m != nil:
			path, start = m[1], i+2
		case path == "" || i < start || line == "" && i < len(lines)-1:
		case strings.HasPrefix(line, "    "):
			found[path] += strings.Repeat("\n", i-start-strings.Count(found[path], "\n")) + line[4:] + "\n"
		default:
			path = ""
		}
	}
	return found
}

// writeFile writes a file of a page, and its directory. A script can be executed.
func writeFile(path, content string) error {
	mode := os.FileMode(0o644)
	if strings.HasPrefix(content, "#!") {
		mode = 0o755
	}
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode))
}

func run(ts *testscript.TestScript, file string, at int, command string, want []string) {
	pattern := regexp.MustCompile("^" + expectation(want) + "$")
	for end := time.Now().Add(waitLimit(20)); ; time.Sleep(100 * time.Millisecond) {
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

// expectation makes a regular expression: a line "…" stands for any lines, and "…" in a line for
// any text in it.
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
