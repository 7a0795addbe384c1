package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Bash itself completes command lines, with the programs as they are built.
func TestCompletion(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir+"/", ".", "../rkt-list")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data := filepath.Join(dir, "data")
	var uuids []string
	for range 2 {
		p, lock, err := poddir.In(data).Create(poddir.NewUUID())
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		uuids = append(uuids, p.UUID)
	}
	slices.Sort(uuids)
	for _, c := range []struct {
		line string // the last word is completed
		all  []string
		some []string
	}{
		{"rkt st", []string{"status", "stats", "stop"}, nil},
		{"rkt ", nil, []string{"run", "list", "cat-manifest", "rm", "completion"}},
		{"rkt --d", []string{"--debug", "--dir="}, nil},
		{"rkt list --no", []string{"--no-legend"}, nil},
		{"rkt gc --", nil, []string{"--grace-period=", "--mark-only", "--uuid-file="}},
		{"rkt status ", uuids, nil},
		{"rkt --debug rm " + uuids[0][:30], uuids[:1], nil},
		{"rkt status --wait " + uuids[1][:30], uuids[1:], nil},
		{"rkt net ", []string{"add", "del", "check"}, nil},
		{"rkt help sto", []string{"stop"}, nil},
		{"rkt status nosuch", nil, nil},
		{"rkt list --format=", nil, nil},
	} {
		words := strings.Split(c.line, " ")
		script := `eval "$(rkt completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _rkt; printf '%s\n' ` +
			`"${COMPREPLY[@]}"`
		cmd := exec.Command("bash", append([]string{"-c", script, "bash"}, words...)...)
		cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "RKT_DIR=" + data, "LC_ALL=C"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%q: %v\n%s", c.line, err, out)
		}
		got := strings.Fields(string(out))
		if c.some == nil && !slices.Equal(got, c.all) {
			t.Errorf("%q: %q, want %q", c.line, got, c.all)
		}
		for _, want := range c.some {
			if !slices.Contains(got, want) {
				t.Errorf("%q: %q has no %q", c.line, got, want)
			}
		}
	}
}

// The other shells read their scripts and offer what bash does.
func TestOtherShells(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir+"/", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, c := range []struct{ shell, script string }{
		{"zsh", `autoload -Uz compinit && compinit -u -d "$1/dump" && eval "$(rkt completion zsh)"
			_describe() { print -l -- "${(@)${(@P)4}%%:*}" "${(@)${(@P)6}%%:*}" }
			words=(rkt gc --); CURRENT=3; _rkt`},
		{"fish", `rkt completion fish | source; complete -C 'rkt gc --' | cut -f 1`},
	} {
		file, err := exec.LookPath(c.shell)
		if err != nil {
			t.Fatalf("%s is missing: run make deps, or install Debian's package %[1]s", c.shell)
		}
		cmd := exec.Command(file, "-c", c.script, c.shell, dir)
		cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", c.shell, err, out)
		}
		got := strings.Fields(string(out))
		slices.Sort(got)
		words, err := exec.Command(filepath.Join(dir, "rkt"), "completion", "words", "--", "gc", "--").Output()
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for line := range strings.Lines(string(words)) {
			word, _, _ := strings.Cut(line, "\t")
			want = append(want, word)
		}
		slices.Sort(want)
		if !slices.Equal(got, want) || len(want) < 10 {
			t.Errorf("%s offers %q, want %q", c.shell, got, want)
		}
	}
}
