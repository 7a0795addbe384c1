package running

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"
)

// Signal sends a signal to the main process of an app of a running pod, as if a process of the pod
// had sent it: what it does is the app's affair.
func (p Pod) Signal(app string, signal unix.Signal, log *slog.Logger) error {
	leader, err := p.Leader()
	if err != nil {
		return err
	}
	for end := time.Now().Add(startTimeout); ; time.Sleep(5 * time.Millisecond) {
		sent, err := p.signalMain(leader, app, signal, log)
		if err != nil {
			return fmt.Errorf("pod %s: app %q: %w", p.UUID, app, err)
		}
		if sent {
			return nil
		}
		if status, ended := p.AppStatus(app); ended {
			return fmt.Errorf("pod %s: app %q: has exited with status %d", p.UUID, app, status)
		}
		if again, err := p.Leader(); err != nil || again != leader {
			return errors.Join(err, fmt.Errorf("pod %s: has just exited", p.UUID))
		}
		if time.Now().After(end) {
			return fmt.Errorf("pod %s: app %q: has no process yet", p.UUID, app)
		}
	}
}

// signalMain signals the main process of an app, if there is one.
func (p Pod) signalMain(leader int, app string, signal unix.Signal, log *slog.Logger) (sent bool, err error) {
	pid := p.Flavor.Main(leader, app)
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
	if p.Flavor.Main(leader, app) != pid { // the number could be another process's by now
		return false, nil
	}
	if again, err := p.Leader(); err != nil || again != leader {
		return false, err
	}
	log.Debug("signals", "pod", p.UUID, "app", app, "signal", unix.SignalName(signal), "process", pid)
	if err := unix.PidfdSendSignal(pidfd, signal, nil, 0); err != nil && err != unix.ESRCH {
		return false, fmt.Errorf("process %d: %w", pid, err)
	}
	return err == nil, nil
}
