package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/cli"
)

func buildAll(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir+"/", "../rkt...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// commandLine is a line of testdata/rkt-1.30.txt that is taken.
type commandLine struct {
	verb  []string // "image", "list"
	flags []string // the flag, and its value
	isApp bool     // follows an image
}

func commandLines(t *testing.T) (lines []commandLine) {
	t.Helper()
	text, err := os.ReadFile("testdata/rkt-1.30.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(strings.TrimPrefix(line, "~ "))
		i := slices.IndexFunc(words, func(s string) bool { return strings.HasPrefix(s, "--") })
		if i < 0 || words[0] == "#" || words[0] == "!" {
			continue
		}
		verb := words[:i]
		isApp := len(verb) > 0 && verb[len(verb)-1] == "IMAGE"
		if isApp {
			verb = verb[:len(verb)-1]
		}
		lines = append(lines, commandLine{verb, words[i:], isApp})
	}
	return lines
}

// double makes programs, by their names, that write what they are called with, a word a line.
func double(t *testing.T, names ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range names {
		script := "#!/bin/sh\nfor a in \"${0##*/}\" \"$@\"; do printf '%s\\n' \"$a\"; done >>\"$CALLS\"\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", dir+"/rkt", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// calls runs rkt with programs that are doubles, and gives what they were called with.
func calls(t *testing.T, dir string, args ...string) (words []string, out string) {
	t.Helper()
	file := filepath.Join(dir, "calls")
	os.Remove(file)
	cmd := exec.Command(filepath.Join(dir, "rkt"), args...)
	cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "CALLS=" + file, "RKT_DIR=" + filepath.Join(dir, "data")}
	said, err := cmd.CombinedOutput()
	if err != nil {
		return nil, string(said)
	}
	text, _ := os.ReadFile(file) // none if no program was called
	return strings.Fields(string(text)), string(said)
}

// Each flag may stand before the command's name, and comes to the program just as after it.
func TestFlagsBeforeCommand(t *testing.T) {
	t.Parallel()
	dir := double(t, cli.Programs()...)
	n := 0
	for _, line := range commandLines(t) {
		if len(line.verb) == 0 || line.isApp || line.verb[0] == "run" || line.verb[0] == "run-prepared" {
			continue // see TestRunAnywhere
		}
		program := map[string]string{"rm": "rkt-gc", "metadata-service": "rkt-metadata"}[line.verb[0]]
		want := slices.Concat(line.flags, line.verb[1:], []string{"operand"})
		if program == "" {
			program = "rkt-" + line.verb[0]
		}
		if line.verb[0] == "rm" {
			want = append([]string{"--must-exist"}, want...)
		}
		for _, flags := range spellings(append([]string{"x"}, line.flags...)) {
			args := slices.Concat([]string{"--debug"}, flags[1:], line.verb, []string{"operand"})
			got, out := calls(t, dir, args...)
			if strings.ReplaceAll(strings.Join(got, " "), "=", " ") != strings.ReplaceAll(program+" "+strings.Join(want,
				" "), "=", " ") &&
				!strings.HasSuffix(flags[len(flags)-1], "=true") {
				t.Errorf("rkt %q: %q, want %s %q\n%s", args, got, program, want, out)
			}
			n++
		}
	}
	if n < 80 {
		t.Errorf("only %d command lines", n)
	}
	if _, out := calls(t, dir, "--ful", "list"); !strings.Contains(out, "unknown flag --ful; did you mean --full?") {
		t.Error(out)
	}
}

const uuid = "0f1e2d3c-0000-4000-8000-000000000001"

// Each flag of rkt run, in each place where it may stand, comes to the same program; an app's stay
// with their image.
func TestRunAnywhere(t *testing.T) {
	t.Parallel()
	dir := double(t, "rkt-prepare", "rkt-net", "rkt-run-prepared", "systemd-nspawn")
	at := func(place int, flags []string) []string {
		places := [][]string{{}, {"run", "--uuid", uuid}, {"one"}, {"--exec", "/x"}, {"--", "--net=app", "--port"},
			{"---"}, {"two"}, {"three"}, {"--", "a", "---"}}
		var args []string
		for i, words := range places {
			args = append(args, words...)
			if i == place {
				args = append(args, flags...)
			}
		}
		return args
	}
	n := 0
	for _, line := range commandLines(t) {
		isRun := len(line.verb) == 1 && line.verb[0] == "run" || len(line.verb) == 0
		if !isRun && !line.isApp {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(line.flags[0], "--"), "=")
		if name == "interactive" { // is for one image only
			continue
		}
		_, ofApp := cli.FlagsOf("app")[name]
		want, out := calls(t, dir, at(1, line.flags)...)
		if (want == nil) != (line.isApp && name != "volume" && name != "mount") {
			t.Errorf("run %q: %s", line.flags, out)
		}
		if line.isApp && want == nil && !strings.Contains(out, "--"+name+" is an app flag; put it after the image") {
			t.Errorf("run %q: %s", line.flags, out)
		}
		for _, place := range []int{0, 2, 3, 5, 6, 7} {
			if ofApp && place > 1 {
				got, out := calls(t, dir, at(place, line.flags)...)
				if place == 5 {
					continue // between images: it is that of the one before it
				}
				image := map[int]string{2: "one", 3: "/x", 6: "two", 7: "three"}[place]
				if text := fmt.Sprint(got); !strings.Contains(text, image+" "+strings.Join(line.flags, " ")+" ") {
					t.Errorf("rkt %q: %q\n%s", at(place, line.flags), got, out)
				}
				n++
				continue
			}
			if line.isApp {
				continue
			}
			for _, flags := range spellings(append([]string{"x"}, line.flags...)) {
				args := at(place, flags[1:])
				if got, out := calls(t, dir, args...); !slices.Equal(got, want) {
					t.Errorf("rkt %q: %q, want %q\n%s", args, got, want, out)
				}
				n++
			}
		}
	}
	if n < 300 {
		t.Errorf("only %d command lines", n)
	}
	for args, want := range map[string]string{
		"run one -- x ---":                       "",
		"run one --- two --- --- three":          "",
		"run --net host one":                     "",
		"--net host run one":                     "",
		"run one --net none --exec=/bin/echo":    "",
		"run --interactive one":                  "", // a boolean flag takes no word
		"--interactive run one":                  "",
		"run one --interactive -- a":             "",
		"run one --exec /x --interactive ---":    "",
		"run one --- two --interactive":          "interactive option only supports one image",
		"run-prepared 0f1e --net host":           "no such pod",
		"run-prepared 0f1e --mds-register=false": "no such pod",
		"--mds-register=false run-prepared 0f1e": "no such pod",
		"run-prepared 0f1e --port=a:1":           "unknown flag --port; it is a flag of rkt-prepare",
		"run-prepared 0f1e --set-env=A=B":        "unknown flag --set-env; it is a flag of rkt-prepare",
		"run one --help":                         "Usage: rkt run",
		"run one --exec /x --- two -h":           "Usage: rkt run",
		"run one --exec --help":                  "",
		"run one -- --help":                      "",
		"run --- one":                            "---: there is no image before it",
		"run one -p 80:80":                       "unknown flag -p; rkt has for it: --port=NAME:[IP:]PORT",
		"run -p 80:80 one":                       "unknown flag -p; rkt has for it: --port=NAME:[IP:]PORT",
		"run one --memroy=1M":                    "unknown flag --memroy; did you mean --memory?",
		"run one --hostnam=h":                    "unknown flag --hostnam; did you mean --hostname?",
		"run --memory=1M one":                    "--memory is an app flag; put it after the image",
		"--memory=1M run one":                    "--memory is an app flag; put it after the image",
		"run one --full":                         "unknown flag --full; it is a flag of rkt-fetch, rkt-image, rkt-list",
		"lst":                                    `unknown command "lst" for "rkt"; did you mean list?`,
		"":                                       "missing command",
		"exec web sh":                            "rkt enter POD COMMAND",
		"ps":                                     "rkt list",
		"enter-exec":                             `unknown command "enter-exec" for "rkt"`,
		"st 0f1e":                                `unknown command "st" for "rkt"`,
		"prep one":                               "",
		"meta":                                   `unknown command "meta" for "rkt"; did you mean metadata?`,
	} {
		got, out := calls(t, dir, strings.Fields(args)...)
		if want == "" && (len(got) == 0 || out != "") || want != "" && !strings.Contains(out, want) {
			t.Errorf("rkt %s: %q, %s; want %s", args, got, out, want)
		}
	}
}

// Each flag of the other commands may follow what the command is about.
func TestFlagsAfterOperands(t *testing.T) {
	t.Parallel()
	dir := buildAll(t)
	n := 0
	for _, line := range commandLines(t) {
		if len(line.verb) == 0 || line.verb[0] == "run" || line.isApp {
			continue
		}
		forms := spellings(append([]string{"x"}, line.flags...))
		for _, flags := range forms[n/5%len(forms):][:1] { // each second one so
			for _, args := range [][]string{
				slices.Concat(flags[1:], line.verb, []string{"one", "--zzz1"}),
				slices.Concat(line.verb, flags[1:], []string{"one", "--zzz1"}),
				slices.Concat(line.verb, []string{"one"}, flags[1:], []string{"--zzz1"}),
				slices.Concat(line.verb, []string{"one"}, flags[1:], []string{"two", "--zzz1"}),
				slices.Concat(line.verb, []string{"one", "two"}, flags[1:], []string{"--zzz1"}),
			} {
				n++
				if line.verb[0] == "enter" && slices.Contains(args, "two") {
					continue // two is a command, and what follows is its own
				}
				cmd := exec.Command(filepath.Join(dir, "rkt"), args...)
				cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "RKT_DIR=" + dir + "/data"}
				out, _ := cmd.CombinedOutput()
				if !strings.Contains(string(out), "unknown flag --zzz1") {
					t.Errorf("rkt %q: %s", args, out)
				}
			}
		}
	}
	if n < 300 {
		t.Errorf("only %d command lines", n)
	}
}
