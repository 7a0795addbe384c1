package enter

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// limitNames are the lines of /proc/PID/limits (proc_pid_limits(5)).
var limitNames = map[string]int{
	"Max cpu time": unix.RLIMIT_CPU, "Max file size": unix.RLIMIT_FSIZE, "Max data size": unix.RLIMIT_DATA,
	"Max stack size": unix.RLIMIT_STACK, "Max core file size": unix.RLIMIT_CORE, "Max resident set": unix.RLIMIT_RSS,
	"Max processes": unix.RLIMIT_NPROC, "Max open files": unix.RLIMIT_NOFILE, "Max locked memory": unix.RLIMIT_MEMLOCK,
	"Max address space": unix.RLIMIT_AS, "Max file locks": unix.RLIMIT_LOCKS,
	"Max pending signals": unix.RLIMIT_SIGPENDING, "Max msgqueue size": unix.RLIMIT_MSGQUEUE,
	"Max nice priority": unix.RLIMIT_NICE, "Max realtime priority": unix.RLIMIT_RTPRIO,
	"Max realtime timeout": unix.RLIMIT_RTTIME,
}

// limits reads the resource limits of a process. prlimit(2) would want CAP_SYS_RESOURCE for another
// user's.
func limits(pid int) (map[int]unix.Rlimit, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return nil, fmt.Errorf("resource limits: %w", err)
	}
	return parseLimits(string(text))
}

func parseLimits(text string) (map[int]unix.Rlimit, error) {
	found := map[int]unix.Rlimit{}
	for line := range strings.Lines(text) {
		for name, resource := range limitNames {
			rest, ok := strings.CutPrefix(line, name+" ")
			if !ok {
				continue
			}
			var values [2]uint64
			fields := strings.Fields(rest)
			for i := range values {
				if len(fields) <= i {
					return nil, fmt.Errorf("resource limits: %q: has no value", name)
				}
				if fields[i] == "unlimited" {
					values[i] = unix.RLIM_INFINITY
					continue
				}
				n, err := strconv.ParseUint(fields[i], 10, 64)
				if err != nil {
					return nil, fmt.Errorf("resource limits: %q: %w", name, err)
				}
				values[i] = n
			}
			found[resource] = unix.Rlimit{Cur: values[0], Max: values[1]}
		}
	}
	if len(found) < len(limitNames) {
		return nil, fmt.Errorf("resource limits: %d of %d are known", len(found), len(limitNames))
	}
	return found, nil
}
