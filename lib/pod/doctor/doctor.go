// Package doctor looks at a host for what keeps pods from running well there, and says what to do
// about it. It changes nothing that stays.
package doctor

import (
	"context"
	"fmt"
	"strings"
)

// Verdict is how well the host does in one respect.
type Verdict string

// The verdicts, from good to bad.
const (
	OK      Verdict = "ok"
	Warning Verdict = "warning" // pods run, but something is missing or will go wrong
	Fault   Verdict = "fault"   // pods do not run, or not safely
)

// Finding is what a check has found.
type Finding struct {
	Check   string  `json:"check"`            // what was looked at
	Verdict Verdict `json:"verdict"`          // ok, warning or fault
	Text    string  `json:"text"`             // what is so, and what that means
	Advice  string  `json:"advice,omitempty"` // what to type or to install
}

// Host is what is looked at.
type Host struct {
	Data    string   // the data directory, absolute
	Plugins []string // directories that CNI plugins are looked for in
}

// check is one look at the host. It returns at least one finding; those that have no name get the
// check's.
type check struct {
	name string
	look func(context.Context, Host) []Finding
}

// checks are all there are, in the order of the report.
var checks = []check{
	{"systemd", checkSystemd}, {"nspawn", checkNspawn}, {"machined", checkMachined}, {"kernel", checkKernel},
	{"overlayfs", checkOverlay},
	{"users", checkUsers}, {"cgroups", checkCgroups}, {"devices", checkDevices}, {"apparmor", checkAppArmor},
	{"selinux", checkSELinux},
	{"plugins", checkPlugins},
	{"firewall", checkFirewall}, {"space", checkSpace}, {"permissions", checkPermissions}, {"journal", checkJournal},
	{"inotify", checkInotify}, {"timer", checkTimer}, {"leftovers", checkLeftovers},
}

// Names are the names of all checks.
func Names() (names []string) {
	for _, c := range checks {
		names = append(names, c.name)
	}
	return names
}

// Look does all checks, or those that are named.
func Look(ctx context.Context, h Host, names ...string) (found []Finding) {
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	for _, c := range checks {
		if len(names) > 0 && !wanted[c.name] {
			continue
		}
		for _, f := range c.look(ctx, h) {
			f.Check = c.name
			found = append(found, f)
		}
	}
	return found
}

// Worst is the worst verdict among findings.
func Worst(findings []Finding) Verdict {
	worst := OK
	for _, f := range findings {
		if f.Verdict == Fault || f.Verdict == Warning && worst == OK {
			worst = f.Verdict
		}
	}
	return worst
}

func ok(format string, args ...any) []Finding {
	return []Finding{{Verdict: OK, Text: fmt.Sprintf(format, args...)}}
}

// bad is a finding of a verdict; the advice follows the text after "|".
func bad(v Verdict, text string, args ...any) []Finding {
	text, advice, _ := strings.Cut(fmt.Sprintf(text, args...), "|")
	return []Finding{{Verdict: v, Text: strings.TrimSpace(text), Advice: strings.TrimSpace(advice)}}
}
