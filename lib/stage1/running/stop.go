package running

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/process"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

// startTimeout is how long a pod may take until its PID 1 takes signals.
const startTimeout = 30 * time.Second

// ErrStillRuns says that a pod has not exited in time.
var ErrStillRuns = errors.New("has not exited")

// Ask asks a running pod to shut down in order, and does not wait for it. A pod that does not run
// is no error.
func (p Pod) Ask(log *slog.Logger) error {
	for end := time.Now().Add(startTimeout); ; time.Sleep(5 * time.Millisecond) {
		state, err := p.State()
		if err != nil || state != poddir.Running {
			log.Debug("does not run", "pod", p.UUID, "state", state)
			return err
		}
		asked, err := p.ask(log)
		if asked {
			return nil
		}
		if time.Now().After(end) {
			return cmp.Or(err, fmt.Errorf("pod %s: is still starting, and takes no signals", p.UUID))
		}
	}
}

// ask signals the pod's PID 1 if it takes signals by now. The kernel drops one that reaches a PID 1
// without a handler.
func (p Pod) ask(log *slog.Logger) (asked bool, err error) {
	leader, err := p.Leader()
	if err != nil {
		return false, err
	}
	pidfd, err := unix.PidfdOpen(leader, 0)
	if err != nil {
		return false, fmt.Errorf("process %d: %w", leader, err)
	}
	defer unix.Close(pidfd)
	signal, takes := p.Flavor.Stop(leader)
	if !takes {
		return false, nil
	}
	if again, err := p.Leader(); err != nil || again != leader { // the number could be another process's by now
		return false, err
	}
	log.Debug("asks the pod's PID 1 to end it", "pod", p.UUID, "process", leader)
	if err := unix.PidfdSendSignal(pidfd, signal, nil, 0); err != nil {
		return false, fmt.Errorf("process %d: %w", leader, err)
	}
	return true, nil
}

// Kill kills a running pod, and waits until it is gone. A pod that does not run is no error.
func Kill(p *poddir.Pod, log *slog.Logger) error {
	pidfd, err := openSupervisor(p)
	if err != nil || pidfd < 0 {
		return err
	}
	defer unix.Close(pidfd)
	log.Debug("kills the pod", "pod", p.UUID)
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("pod %s: kill: %w", p.UUID, err)
	}
	if err := awaitKilled(pidfd); err != nil {
		return fmt.Errorf("pod %s: kill: %w", p.UUID, err)
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
	ended, err := process.AwaitEnd(pidfd, limit)
	if err == nil && !ended {
		err = fmt.Errorf("%w after %s", ErrStillRuns, limit)
	}
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	return nil
}

// openSupervisor opens the process that rkt-run-prepared has become as a pidfd; it is -1 for a pod
// that does not run.
func openSupervisor(p *poddir.Pod) (pidfd int, err error) {
	state, err := p.State()
	if err != nil || state != poddir.Running {
		return -1, err
	}
	supervisor, err := p.Supervisor()
	if err != nil {
		return -1, err
	}
	pidfd, err = unix.PidfdOpen(supervisor, 0)
	if err == unix.ESRCH {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("process %d: %w", supervisor, err)
	}
	held, err := p.HeldBy(supervisor)
	if err == nil && held {
		return pidfd, nil
	}
	unix.Close(pidfd) // the pod has exited, another program has its lock, and another process may have the number
	if err != nil {
		err = fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	return -1, err
}
