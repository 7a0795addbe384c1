package stage2

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestDispatch(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		says   string
	}{
		{"", 254, "rkt: no subcommand given (--help lists them)\n"},
		{"nosuch", 254, "rkt: unknown subcommand (--help lists them)\n"},
		{"app", 254, "rkt: app: takes the name of an app and at most one handler\n"},
		{"app a b c", 254, "rkt: app: takes the name of an app and at most one handler\n"},
		{"app ../x", 254, "rkt: app \"../x\": no name of an app\n"},
		{"app nosuch", 254, "rkt: app \"nosuch\": open /"},
		{"init /nosuch", 254, "rkt: init: takes a file and the arguments of its program\n"},
		{"init /nosuch x", 203, "rkt: /nosuch: no such file or directory\n"},
		{"told /nosuch", 254, "rkt: told: takes a file and the arguments of its program\n"},
		{"told /nosuch x", 254, "rkt: /nosuch: no such file or directory\n"},
	} {
		var stdout, stderr bytes.Buffer
		status := Main(strings.Fields(c.args), &stdout, &stderr)
		if status != c.status || !strings.HasPrefix(stderr.String(), c.says) ||
			strings.Count(stderr.String(), "\n") != 1 || stdout.Len() > 0 {
			t.Errorf("%s: %d, %q, %q", c.args, status, stdout.String(), stderr.String())
		}
	}
}

// --help has each subcommand but the one that is init's own.
func TestUsage(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if status := Main([]string{"--help"}, &stdout, &stderr); status != 0 || stdout.String() != Usage ||
		stderr.Len() > 0 {
		t.Errorf("%d, %q", status, stderr.String())
	}
	_, list, _ := strings.Cut(Usage, "\n\n")
	_, list, _ = strings.Cut(list, "\n\n")
	var listed []string
	for line := range strings.Lines(list) {
		if name, _, _ := strings.Cut(line, " "); name != "" {
			listed = append(listed, name)
		}
	}
	for name := range commands {
		if slices.Contains(listed, name) == (name == "told") {
			t.Errorf("%s: listed %v", name, listed)
		}
	}
	if len(listed) != len(commands)-1 {
		t.Errorf("%d subcommands, of which %v are listed", len(commands), listed)
	}
}
