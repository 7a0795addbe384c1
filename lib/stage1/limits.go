package stage1

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Limits are the resource limits of a process (getrlimit(2)), by the names in an OCI runtime
// configuration.
var Limits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// LimitNames are their names as --ulimit has them: nofile.
func LimitNames() (names []string) {
	for name := range maps.Keys(Limits) {
		names = append(names, strings.ToLower(strings.TrimPrefix(name, "RLIMIT_")))
	}
	slices.Sort(names)
	return names
}

// ParseLimit reads NAME and SOFT[:HARD] of a resource limit. A value is a number in the unit of the
// kernel, or unlimited.
func ParseLimit(name, text string) (limit specs.POSIXRlimit, err error) {
	limit.Type = "RLIMIT_" + strings.TrimPrefix(strings.ToUpper(name), "RLIMIT_")
	resource, ok := Limits[limit.Type]
	if !ok {
		return limit, fmt.Errorf("%q is not one of %s", name, strings.Join(LimitNames(), ", "))
	}
	soft, hard, both := strings.Cut(text, ":")
	if !both {
		hard = soft
	}
	if limit.Soft, err = limitValue(soft); err == nil {
		limit.Hard, err = limitValue(hard)
	}
	switch {
	case err != nil:
		return limit, err
	case limit.Soft > limit.Hard:
		return limit, fmt.Errorf("the soft limit %s is above the hard limit %s", soft, hard)
	case resource == unix.RLIMIT_NOFILE && limit.Hard == unix.RLIM_INFINITY:
		return limit,
			errors.New("the kernel has no unlimited number of open files; write a number, at most that in " +
				"/proc/sys/fs/nr_open")
	}
	return limit, nil
}

func limitValue(s string) (uint64, error) {
	if slices.Contains([]string{"unlimited", "infinity", "-1"}, s) {
		return unix.RLIM_INFINITY, nil
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is neither a number nor unlimited; write SOFT[:HARD]", s)
	}
	return n, nil
}

// Rlimits are the limits of a configuration by the number of the resource.
func Rlimits(limits []specs.POSIXRlimit) (map[int]unix.Rlimit, error) {
	all := map[int]unix.Rlimit{}
	for _, l := range limits {
		resource, ok := Limits[l.Type]
		if !ok {
			return nil, fmt.Errorf("process.rlimits: unknown limit %q", l.Type)
		}
		all[resource] = unix.Rlimit{Cur: l.Soft, Max: l.Hard}
	}
	return all, nil
}
