// Package systemd is what the toolkit asks of the host's systemd without talking to it.
package systemd

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/util"
)

// JournalSocket takes records for the host's journal (sd_journal_print(3)).
const JournalSocket = "/run/systemd/journal/socket"

// Booted reports whether systemd is the host's init.
func Booted() bool { return util.IsRunningSystemd() }

// Unit is the name of the systemd unit that the process belongs to, or "": the last part of its
// cgroup's path that names a service or a scope (a service may have made groups below its
// own).
func Unit() string { return UnitOf(os.Getpid()) }

// UnitOf is Unit for another process; it is "" for one that has ended.
func UnitOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return ""
	}
	return unitOf(string(text))
}

func unitOf(cgroups string) string {
	for line := range strings.Lines(cgroups) { // hierarchy-ID:controllers:path, see cgroups(7)
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 || f[1] != "" && f[1] != "name=systemd" {
			continue
		}
		parts := strings.Split(f[2], "/")
		for i := len(parts) - 1; i >= 0; i-- {
			if strings.HasSuffix(parts[i], ".service") || strings.HasSuffix(parts[i], ".scope") {
				return parts[i]
			}
		}
	}
	return ""
}

// LeadingNumber returns the number that a version, or another text, begins with; 0 if there is
// none.
func LeadingNumber(text string) int {
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(text)
	}
	n, err := strconv.Atoi(text[:end])
	if err != nil {
		return 0
	}
	return n
}
