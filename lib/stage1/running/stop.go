package running

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

// haltSignal is SIGRTMIN+3, by which a systemd in a container is asked to halt (systemd(1)); glibc
// keeps the first two real-time signals.
const haltSignal = 34 + 3

// startPatience is how long a pod may take until its systemd takes signals.
const startPatience = 30 * time.Second

// ErrStillRuns says that a pod has not exited in time.
var ErrStillRuns = errors.New("has not exited")

// Ask asks a running pod to shut down cleanly, and does not wait for it. A pod that does not run is
// no error.
//
// It signals the pod's systemd, which can be asked as often as you like, by anybody: apps are
// stopped once. systemd-nspawn, which the host's systemd signals, passes the first SIGTERM on as
// such a request and takes a second one for "at once"; so it gets none from here.
func Ask(p *poddir.Pod, log *slog.Logger) error {
	for end := time.Now().Add(startPatience); ; time.Sleep(5 * time.Millisecond) {
		state, err := p.State()
		if err != nil || state != poddir.Running || p.Ended() {
			log.Debug("does not run", "pod", p.UUID, "state", state)
			return err
		}
		asked, err := halt(p, log)
		if asked {
			return nil
		}
		if time.Now().After(end) {
			return cmp.Or(err, fmt.Errorf("pod %s: is still starting, and takes no signals", p.UUID))
		}
	}
}

// halt signals the pod's systemd if it takes signals by now. The kernel drops one that reaches a
// PID 1 without a handler.
func halt(p *poddir.Pod, log *slog.Logger) (asked bool, err error) {
	leader, err := Leader(p)
	if err != nil {
		return false, err
	}
	pidfd, err := unix.PidfdOpen(leader, 0)
	if err != nil {
		return false, fmt.Errorf("process %d: %w", leader, err)
	}
	defer unix.Close(pidfd)
	if !readsSignal(leader, haltSignal) {
		return false, nil
	}
	if again, err := Leader(p); err != nil || again != leader { // the number could be another process's by now
		return false, err
	}
	log.Debug("asks the pod's systemd to halt", "pod", p.UUID, "process", leader)
	if err := unix.PidfdSendSignal(pidfd, haltSignal, nil, 0); err != nil {
		return false, fmt.Errorf("process %d: %w", leader, err)
	}
	return true, nil
}

// readsSignal reports whether a process reads a signal from a descriptor (signalfd(2)), as systemd does from early on
// until it ends. That it blocks the signal tells nothing: it does so for a moment at each fork, too, and what arrives
// then is dropped when it handles no signals yet.
func readsSignal(pid, signal int) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil { // it was closed
			continue
		}
		for line := range strings.Lines(string(text)) {
			hex, ok := strings.CutPrefix(line, "sigmask:")
			if mask, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64); ok && err == nil && mask&(1<<(signal-1)) != 0 {
				return true
			}
		}
	}
	return false
}

// Kill kills a running pod, and waits until it is gone. A pod that does not run is no error.
func Kill(p *poddir.Pod, log *slog.Logger) error {
	pidfd, err := openSupervisor(p)
	if err != nil || pidfd < 0 {
		return err
	}
	defer unix.Close(pidfd)
	log.Debug("kills systemd-nspawn", "pod", p.UUID)
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("pod %s: systemd-nspawn: %w", p.UUID, err)
	}
	if err := awaitKilled(pidfd); err != nil {
		return fmt.Errorf("pod %s: systemd-nspawn: %w", p.UUID, err)
	}
	return KillRemains(p, log)
}

// Await waits until a pod does not run, for as long as limit, or without one for 0. It returns
// ErrStillRuns after that.
func Await(p *poddir.Pod, limit time.Duration) error {
	pidfd, err := openSupervisor(p)
	if err != nil || pidfd < 0 {
		return err
	}
	defer unix.Close(pidfd)
	ended, err := awaitEnd(pidfd, limit)
	if err == nil && !ended {
		err = fmt.Errorf("%w after %s", ErrStillRuns, limit)
	}
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	return nil
}

// openSupervisor opens the systemd-nspawn of a running pod as a pidfd; it is -1 for a pod that does
// not run.
func openSupervisor(p *poddir.Pod) (pidfd int, err error) {
	state, err := p.State()
	if err != nil || state != poddir.Running {
		return -1, err
	}
	nspawn, err := p.Supervisor()
	if err != nil {
		return -1, err
	}
	pidfd, err = unix.PidfdOpen(nspawn, 0)
	if err == unix.ESRCH {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("process %d: %w", nspawn, err)
	}
	held, err := p.HeldBy(nspawn)
	if err == nil && held {
		return pidfd, nil
	}
	unix.Close(pidfd) // the pod has exited, another program has its lock, and another process may have the number
	if err != nil {
		err = fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	return -1, err
}
