package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// initLine is the line of rkt.conf that makes flavor init the host's choice.
const initLine = "stage1-name init"

// initShort are sessions that pods of flavor init pass as well, and make test plays; initLong those
// that make torture plays besides. initExcept are the others, with the reason.
var (
	initShort = strings.Fields(`
		activation apps asked closed enter everyday first-try health isolators logs machines
		notify peel run stop terminal users volumes`)
	initLong = strings.Fields(`
		ace appc as-meant attach bad-input bare-host beside bytes command-line cp devices disk
		drop-in early enter-closed export faults firewalls forced-kills fuzz gc given harness
		health-actions hostile-pod image inspect isolation isolation-page json killed lines links
		manifest masks members metadata mistakes named-volumes names network pages peers
		permissions pid1 printable quadlet readme ready recipes reload rkt-1.30-page runaway
		runtimetest secrets shown soak sources stage2 stats status sys syscalls syslog trust unit
		units update words`)
	initExcept = map[string]string{
		"guide":          "the guide shows the processes of flavor `host`, and its journal (`journalctl -M`)",
		"redis-service":  "it shows the processes of flavor `host`, and its journal (`journalctl -M`)",
		"systemd-page":   "the page shows the processes of flavor `host` (`systemctl status`)",
		"lifecycle-page": "the page shows what `rkt status` says of a pod of flavor `host`",
		"directory":      "the page names the files of a pod of flavor `host`",
		"logs-kill":      "it kills the pod's journald, and reads the logs of pods that are no services",
		"recorder": "it takes away the programs by which flavor `host` records how an app ends; PID 1 " +
			"does that itself",
		"systemd-copy": "it is about the copy of the host's systemd",
		"many": "it counts what a pod of flavor `host` takes of a host: inotify instances, connections " +
			"of the bus, processes",
		"doctor":  "it is about what flavor `host` needs of the host",
		"upgrade": "its pods were prepared by earlier versions, which had flavor `host` alone",
		"fly":     "it names its flavor",
		"init":    "it names its flavor",
		"cgroups": "it names its flavor",
	}
)

// TestSessionsInit plays sessions with flavor init in rkt.conf. RKT_INIT_SESSIONS names others.
func TestSessionsInit(t *testing.T) {
	names := initShort
	if os.Getenv("RKT_TORTURE") == "1" {
		names = slices.Concat(initShort, initLong)
	}
	if others := strings.Fields(os.Getenv("RKT_INIT_SESSIONS")); len(others) > 0 {
		names = others
	}
	playConfigured(t, initLine, names)
}

// initTableVariable has the page that TestInitTable writes the table into.
const initTableVariable = "RKT_INIT_TABLE"

// Every session passes under flavor init, or is an exception with its cause; the page says so.
func TestInitTable(t *testing.T) {
	sessions, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(sessions) == 0 {
		t.Fatalf("no sessions: %v", err)
	}
	passing := slices.Concat(initShort, initLong)
	known := slices.Concat(passing, slices.Collect(maps.Keys(initExcept)))
	for _, session := range sessions {
		name := strings.TrimSuffix(filepath.Base(session), ".txtar")
		others := slices.DeleteFunc(slices.Clone(known), func(s string) bool { return s == name })
		if len(known)-len(others) != 1 {
			t.Errorf("%s: is not known once", name)
		}
	}
	if len(known) != len(sessions) {
		t.Errorf("%d sessions are known, of %d", len(known), len(sessions))
	}
	const page = "../../docs/stage1.md"
	text, err := os.ReadFile(cmp.Or(os.Getenv(initTableVariable), page))
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- generated: sessions -->\n", "<!-- end -->"
	before, rest, _ := strings.Cut(string(text), begin)
	_, after, ok := strings.Cut(rest, end)
	want := before + begin + initTable(passing) + end + after
	if os.Getenv(initTableVariable) != "" && ok {
		err = os.WriteFile(os.Getenv(initTableVariable), []byte(want), 0o644)
	} else if want != string(text) || !ok {
		err = fmt.Errorf("%s: differs; RKT_INIT_TABLE=FILE has this test write it", page)
	}
	if err != nil {
		t.Error(err)
	}
}

// initTable says which sessions pass, and why others do not.
func initTable(passing []string) string {
	slices.Sort(passing)
	text, line := "", ""
	for i, name := range passing {
		word := "`" + name + "`,"
		if i == len(passing)-1 {
			word = "`" + name + "`."
		}
		if len(line)+len(word) > 99 {
			text, line = text+line+"\n", ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	text += line + "\n\nThe others:\n\n| session | cause |\n|---|---|\n"
	for _, name := range slices.Sorted(maps.Keys(initExcept)) {
		text += "| `" + name + "` | " + initExcept[name] + " |\n"
	}
	return text
}
