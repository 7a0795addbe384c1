package run

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// given is what the process got from who started it, and its apps are to have: the unit's Limit…=
// and UMask=, or the shell's limits.
type given struct {
	limits []specs.POSIXRlimit
	umask  uint32
}

// readGiven reads it.
func readGiven() (given, error) {
	g := given{umask: stage1.Umask}
	if err := forgetRaised(); err != nil {
		return g, err
	}
	for _, name := range slices.Sorted(maps.Keys(stage1.Limits)) {
		var l unix.Rlimit
		if err := unix.Getrlimit(stage1.Limits[name], &l); err != nil {
			return g, fmt.Errorf("resource limits: %w", err)
		}
		g.limits = append(g.limits, specs.POSIXRlimit{Type: name, Soft: l.Cur, Hard: l.Max})
		if name == "RLIMIT_NOFILE" { // this process goes on with as many as it may have
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: l.Max, Max: l.Max}); err != nil {
				return g, fmt.Errorf("resource limits: %w", err)
			}
		}
	}
	if !strings.HasSuffix(systemd.Unit(), ".service") { // the umask of a shell is for its user's files
		return g, nil
	}
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return g, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "Umask:"); ok {
			mask, err := strconv.ParseUint(strings.TrimSpace(value), 8, 32)
			if err != nil {
				return g, fmt.Errorf("umask: %w", err)
			}
			g.umask = uint32(mask)
		}
	}
	return g, nil
}

// forgetRaised gives the process back the soft limit of open files that it was started with. Go
// raises that for itself, says to nobody what it was, and undoes it before an exec, even one that
// fails.
func forgetRaised() error {
	if err := syscall.Exec("/", []string{"/"}, nil); !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("resource limits: %w", err)
	}
	return nil
}

// checkAsked refuses limits that were asked for and are above what the process itself could get,
// where root may not raise its own.
func checkAsked(apps []*app) error {
	for _, a := range apps {
		if a.Prepared == nil {
			continue
		}
		for _, l := range a.Prepared.Process.Rlimits {
			var own unix.Rlimit
			if err := unix.Getrlimit(stage1.Limits[l.Type], &own); err != nil {
				return fmt.Errorf("resource limit %s: %w", l.Type, err)
			}
			if l.Hard > own.Max {
				return fmt.Errorf("app %q: --ulimit: %s=%d is above %d, the most that this process may have (it "+
					"lacks CAP_SYS_RESOURCE)",
					a.Name, strings.ToLower(strings.TrimPrefix(l.Type, "RLIMIT_")), l.Hard, own.Max)
			}
		}
	}
	return nil
}
