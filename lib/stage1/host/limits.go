package host

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
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
