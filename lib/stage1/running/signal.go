package running

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

// Real-time signals by number (signal(7)); the C library keeps the first two.
const rtMin, rtMax = 34, 64

// ParseSignal reads the name of a signal, with or without SIG and in any case, or its number.
func ParseSignal(s string) (unix.Signal, error) {
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	base := 0
	switch {
	case strings.HasPrefix(name, "RTMIN"):
		base, name = rtMin, strings.TrimPrefix(name[len("RTMIN"):], "+")
	case strings.HasPrefix(name, "RTMAX"):
		base, name = rtMax, name[len("RTMAX"):]
	}
	if base != 0 && name == "" {
		return unix.Signal(base), nil
	}
	if n := unix.SignalNum("SIG" + name); base == 0 && n != 0 {
		return n, nil
	}
	n, err := strconv.Atoi(name)
	n += base
	if err != nil || n < 1 || n > rtMax || base != 0 && n < rtMin {
		return 0, errors.New("not a signal; write a name such as HUP or USR1, or a number from 1 to 64")
	}
	return unix.Signal(n), nil
}

// Signal sends a signal to the main process of an app of a running pod, as if a process of the pod had sent it: what it does is the
// app's affair.
func Signal(p *poddir.Pod, app string, signal unix.Signal, log *slog.Logger) error {
	leader, err := Leader(p)
	if err != nil {
		return err
	}
	for end := time.Now().Add(startPatience); ; time.Sleep(5 * time.Millisecond) {
		sent, err := signalMain(p, leader, app, signal, log)
		if err != nil {
			return fmt.Errorf("pod %s: app %q: %w", p.UUID, app, err)
		}
		if sent {
			return nil
		}
		if status, ended := p.AppStatus(app); ended {
			return fmt.Errorf("pod %s: app %q: has exited with status %d", p.UUID, app, status)
		}
		if again, err := Leader(p); err != nil || again != leader {
			return errors.Join(err, fmt.Errorf("pod %s: has just exited", p.UUID))
		}
		if time.Now().After(end) {
			return fmt.Errorf("pod %s: app %q: has no process yet", p.UUID, app)
		}
	}
}

// signalMain signals the main process of an app, if there is one.
func signalMain(p *poddir.Pod, leader int, app string, signal unix.Signal, log *slog.Logger) (sent bool, err error) {
	pid := mainProcess(leader, app)
	if pid == 0 {
		return false, nil
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(pidfd)
	if mainProcess(leader, app) != pid { // the number could be another process's by now
		return false, nil
	}
	if again, err := Leader(p); err != nil || again != leader {
		return false, err
	}
	log.Debug("signals", "pod", p.UUID, "app", app, "signal", unix.SignalName(signal), "process", pid)
	if err := unix.PidfdSendSignal(pidfd, signal, nil, 0); err != nil && err != unix.ESRCH {
		return false, fmt.Errorf("process %d: %w", pid, err)
	}
	return err == nil, nil
}

// mainProcess is the oldest process in the cgroup of the app's unit that is not in the pod's own root, or 0. That is where rkt-stage2 is
// until just before it executes the app, and where it stays if the app has a PID namespace of its own: then the app's is PID 1 there.
func mainProcess(leader int, app string) int {
	unit := unitGroup(leader, app)
	var top, root unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/root", leader), &top); err != nil || unit == "" {
		return 0
	}
	oldest, started := 0, uint64(math.MaxUint64)
	for _, pid := range processes(func(pid int) bool {
		group := controlGroup(pid)
		return (group == unit || strings.HasPrefix(group, unit+"/")) && InPIDNamespace(leader, pid) &&
			unix.Stat(fmt.Sprintf("/proc/%d/root", pid), &root) == nil && (root.Dev != top.Dev || root.Ino != top.Ino)
	}) {
		if at := StartTime(pid); at < started || at == started && pid < oldest {
			oldest, started = pid, at
		}
	}
	return oldest
}

// unitGroup is the cgroup of an app's unit, or "".
func unitGroup(leader int, app string) string {
	own := controlGroup(leader)
	if own == "" {
		return ""
	}
	return strings.TrimSuffix(own, "/init.scope") + "/system.slice/" + app + ".service"
}
