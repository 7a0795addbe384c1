package place

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/confine"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// initLimits are those of the pod's init: what systemd-nspawn gives it, the kernel's, except where
// that follows from the host's memory.
var initLimits = map[string]specs.POSIXRlimit{
	"RLIMIT_AS": unlimited, "RLIMIT_CORE": {Soft: 0, Hard: unix.RLIM_INFINITY}, "RLIMIT_CPU": unlimited,
	"RLIMIT_DATA": unlimited, "RLIMIT_FSIZE": unlimited, "RLIMIT_LOCKS": unlimited,
	"RLIMIT_MEMLOCK": {Soft: 8 << 20, Hard: 8 << 20}, "RLIMIT_MSGQUEUE": {Soft: 819200, Hard: 819200},
	"RLIMIT_NICE": {}, "RLIMIT_NOFILE": {Soft: 1024, Hard: 4096}, "RLIMIT_NPROC": unlimited, "RLIMIT_RSS": unlimited,
	"RLIMIT_RTPRIO": {}, "RLIMIT_RTTIME": unlimited, "RLIMIT_SIGPENDING": unlimited, "RLIMIT_STACK": {Soft: 8 << 20,
		Hard: unix.RLIM_INFINITY},
}

var unlimited = specs.POSIXRlimit{Soft: unix.RLIM_INFINITY, Hard: unix.RLIM_INFINITY}

// InitLimits returns the limits that the pod's init is to have so that no limit of its apps holds
// it up, and none of theirs is cut where nothing in the pod may raise a hard limit; and the
// arguments by which systemd-nspawn gives it more than it would.
func InitLimits(apps ...[]specs.POSIXRlimit) (limits []specs.POSIXRlimit, options []string) {
	for _, name := range slices.Sorted(maps.Keys(initLimits)) {
		l := initLimits[name]
		l.Type = name
		for _, own := range slices.Concat(apps...) {
			if own.Type == name {
				l.Hard = max(l.Hard, own.Hard)
			}
		}
		if l.Hard > initLimits[name].Hard || name == "RLIMIT_NPROC" || name == "RLIMIT_SIGPENDING" {
			options = append(options, fmt.Sprintf("--rlimit=%s=%s:%s", name, limitText(l.Soft), limitText(l.Hard)))
		}
		limits = append(limits, l)
	}
	return limits, options
}

func limitText(n uint64) string {
	if n == unix.RLIM_INFINITY {
		return "infinity"
	}
	return strconv.FormatUint(n, 10)
}

// Raise has the pod's init, and its parent, held up by no limit that is meant for the apps, and
// returns arguments of systemd-nspawn. In a pod with users of its own no process can have a hard
// limit above that of the init; root of the host may raise limits.
func Raise(s *stage1.Start) (options []string, err error) {
	var lists [][]specs.POSIXRlimit
	for _, a := range s.Apps {
		if a.Prepared != nil {
			lists = append(lists, stage1.Finish(a.Prepared, a.Final).Process.Rlimits)
		}
	}
	limits, options := InitLimits(lists...)
	for _, l := range limits {
		if err := confine.SetLimit(stage1.Limits[l.Type], unix.Rlimit{Cur: l.Soft, Max: l.Hard}); err != nil {
			return nil, fmt.Errorf("resource limit %s: %w", l.Type, err)
		}
	}
	if s.Users == nil {
		options = nil
	}
	return options, nil
}
