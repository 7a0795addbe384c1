package running

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/process"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

// killTimeout is how long a killed process may take to be gone.
const killTimeout = 5 * time.Second

// KillRemains kills what is left of a pod whose supervisor was killed: its PID 1 lives on then, and
// all other processes with it, where no unit of the host's ends them. It returns when they are
// gone.
func KillRemains(p *poddir.Pod, log *slog.Logger) error {
	var root, own unix.Stat_t
	if err := unix.Lstat(p.Path(poddir.RootDir), &root); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return fmt.Errorf("%s: %w", p.Path(poddir.RootDir), err)
	}
	isInit := func(pid int) bool { // the PID 1 of a PID namespace, and its root is the pod's
		if err := unix.Stat(fmt.Sprintf("/proc/%d/root", pid), &own); err != nil || own.Dev != root.Dev ||
			own.Ino != root.Ino {
			return false
		}
		numbers, err := process.Status(pid, "NSpid")
		f := strings.Fields(numbers)
		return err == nil && len(f) > 1 && f[len(f)-1] == "1"
	}
	var errs []error
	for _, pid := range process.All(isInit) {
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err == unix.ESRCH {
			continue
		}
		if err == nil && isInit(pid) { // the number is still the same process's
			log.Debug("kills what has outlived the pod", "pod", p.UUID, "process", pid)
			if err = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err == nil || err == unix.ESRCH {
				err = awaitKilled(pidfd)
			}
		}
		unix.Close(pidfd)
		if err != nil {
			errs = append(errs, fmt.Errorf("pod %s: process %d: %w", p.UUID, pid, err))
		}
	}
	return errors.Join(errs...)
}

// awaitKilled waits until a process that was killed has ended.
func awaitKilled(pidfd int) error {
	ended, err := process.AwaitEnd(pidfd, killTimeout)
	if err == nil && !ended {
		err = errors.New("does not end, although it was killed")
	}
	return err
}
