package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

var report = regexp.MustCompile(`\{.*\}`)

// cases runs a table of pods whose app is "testapp inspect", and compares what it sees: cases FILE
// LEAST. A case is a line with what follows "rkt run", as a shell reads it, and indented lines with
// what is expected: NAME=VALUE, NAME~REGEXP, "NAME is the host's", "NAME is its own", or "fails
// REGEXP" for a run that ends with 254.
func cases(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile(args[0])
	count, failed := 0, 0
	fail := func(format string, args ...any) {
		ts.Logf(format, args...)
		failed++
	}
	blocks := strings.Split(text, "\n")
	for i := 0; i < len(blocks); {
		command := blocks[i]
		i++
		if command == "" || strings.HasPrefix(command, "#") {
			continue
		}
		var wants []string
		for ; i < len(blocks) && strings.HasPrefix(blocks[i], "\t"); i++ {
			wants = append(wants, strings.TrimPrefix(blocks[i], "\t"))
		}
		if len(wants) == 0 {
			ts.Fatalf("%s: nothing is expected", command)
		}
		count++
		cmd := exec.Command("sh", "-c", "rkt run --net=none "+command)
		cmd.Env = append(os.Environ(), "RKT_INSECURE_OPTIONS=image", "FROM_CALLER=caller")
		cmd.Dir = ts.MkAbs(".")
		out, err := cmd.CombinedOutput()
		status := cmd.ProcessState.ExitCode()
		if pattern, fails := strings.CutPrefix(wants[0], "fails "); fails {
			if status != 254 || !regexp.MustCompile(pattern).Match(out) {
				fail("rkt run %s: status %d, %s\nwant: %s", command, status, out, pattern)
			}
			continue
		}
		var seen map[string]string
		if err != nil || json.Unmarshal(report.Find(out), &seen) != nil {
			fail("rkt run %s: %v\n%s", command, err, out)
			continue
		}
		for _, want := range wants {
			if !fits(seen, want) {
				name := strings.FieldsFunc(want, func(r rune) bool { return strings.ContainsRune("=~ ", r) })[0]
				fail("rkt run %s: want %s\ngot %q", command, want, seen[name])
			}
		}
	}
	ts.Logf("%d cases", count)
	if count < 60 || failed > 0 {
		ts.Fatalf("%d cases of at least 60, %d differences", count, failed)
	}
}

func fits(seen map[string]string, want string) bool {
	if name, ok := strings.CutSuffix(want, " is the host's"); ok {
		host, err := os.Readlink("/proc/self/ns/" + strings.TrimPrefix(name, "ns."))
		return err == nil && seen[name] == host
	}
	if name, ok := strings.CutSuffix(want, " is its own"); ok {
		host, err := os.Readlink("/proc/self/ns/" + strings.TrimPrefix(name, "ns."))
		return err == nil && seen[name] != "" && seen[name] != host
	}
	if name, ok := strings.CutSuffix(want, " is not there"); ok {
		_, found := seen[name]
		return !found
	}
	at := strings.IndexAny(want, "=~")
	got, found := seen[want[:at]]
	if want[at] == '~' {
		return found && regexp.MustCompile(want[at+1:]).MatchString(got)
	}
	return found && got == want[at+1:]
}
