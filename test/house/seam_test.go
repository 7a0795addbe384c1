package house

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// hostWords are what only flavor host knows: its programs and services, its unit files and cgroups,
// the paths of its systemd, the signals by which that is asked to end.
var hostWords = regexp.MustCompile(`nspawn|machined|machinectl|RTMIN|/run/systemd/|etc/systemd/system|` +
	`var/log/journal|_SYSTEMD_UNIT|system\.slice|init\.scope|/lib/stage1/host(/|")`)

// hostExcept are lines that may say so all the same, by a part of each line, with the reason.
var hostExcept = map[string][]struct{ part, why string }{
	"lib/host/systemd/systemd.go": {{"/run/systemd/", "the host's systemd"}},
	"lib/cli/log.go": {{"/run/systemd/journal/socket",
		"what programs tell the host's journal, with --debug too"}},
	"lib/network/names.go":         {{"/run/systemd/resolve/", "the host's resolver"}},
	"lib/network/cni/del.go":       {{"machinectl terminate", "what to type"}},
	"lib/host/userns/taken.go":     {{"/run/systemd/nspawn-uid", "ranges that the host's other containers have"}},
	"lib/host/process/signal.go":   {{"RTMIN", "names of signals that users give"}},
	"lib/pod/prepare/everyday.go":  {{"SIGRTMIN+3", "an example of what to type"}},
	"lib/poddir/pod.go":            {{`"stage1/nspawn-options"`, "the name of a file of flavor host"}},
	"lib/command/rkt/run.go":       {{"SeeAlso:", "manual pages"}},
	"lib/command/rkt/rkt.go":       {{"rkt unit docker://redis", "where the host's units are"}},
	"lib/command/unit/unit.go":     {{"/etc/systemd/system", "where the host's units are"}},
	"lib/command/notify/notify.go": {{"lib/stage1/host/inside", "rkt-notify is a program in pods of flavor host"}},
	"lib/stage2/stage2.go":         {{"lib/stage1/host/", "rkt-stage2 has the helpers of flavor host"}},
	"lib/command/runprepared/runprepared.go": {
		{"SeeAlso:", "manual pages"}, {"process turns into systemd-nspawn", "help of the default"},
		{"systemd-nspawn in its own place", "help of the default"},
	},
	"lib/pod/doctor/doctor.go": {{`"nspawn"`, "names of checks of the host"}},
	"lib/pod/doctor/host.go":   {{"", "rkt-doctor names what pods of flavor host need of the host"}},
	"lib/pod/doctor/upkeep.go": {{"lib/stage1/host/inotify", "the same"}, {"/var/log/journal", "the same"}},
}

// Outside of lib/stage1 nothing knows how flavor host runs pods: a flavor can be added without
// touching what is above. Comments may say it.
func TestSeam(t *testing.T) {
	for _, line := range []string{`exec("systemd-nspawn")`, `"github.com/rkt-toolkit/rkt/lib/stage1/host"`,
		`kill(34 + 3) is SIGRTMIN+3`} {
		if !hostWords.MatchString(line) {
			t.Fatalf("does not find %s", line)
		}
	}
	used := map[string]bool{}
	files := 0
	err := filepath.WalkDir("../../lib", func(path string, d os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, "../../")
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") ||
			strings.HasPrefix(name, "lib/stage1/") || strings.HasPrefix(name, "lib/testkit/") {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			code, comment, _ := strings.Cut(line, "//")
			if strings.HasSuffix(code, ":") { // of a URL
				code += "//" + comment
			}
			if word := hostWords.FindString(code); word != "" && !mayKnow(name, code, used) {
				t.Errorf("%s knows %s: that is lib/stage1/host's: %s", name, word, strings.TrimSpace(line))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 200 {
		t.Errorf("looked at %d files only", files)
	}
	for name, list := range hostExcept {
		for _, e := range list {
			if !used[name+e.part] {
				t.Errorf("%s has no line with %q any more: take it off the list", name, e.part)
			}
		}
	}
}

func mayKnow(name, code string, used map[string]bool) bool {
	for _, e := range hostExcept[name] {
		if strings.Contains(code, e.part) {
			used[name+e.part] = true
			return true
		}
	}
	return false
}
