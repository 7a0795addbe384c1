package running

import (
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/rkt-toolkit/rkt/lib/pod"
	"golang.org/x/sys/unix"
)

// haltSignal is SIGRTMIN+3, by which systemd-nspawn asks the pod's systemd to halt; glibc keeps the first two real-time signals.
const haltSignal = 34 + 3

// Stop asks a running pod to end in order, or with force kills it. It waits for the end of a killed one only. A pod that does not run is no error.
func Stop(p *pod.Pod, force bool, log *slog.Logger) error {
	state, err := p.State()
	if err != nil || state != pod.Running {
		log.Debug("does not run", "pod", p.UUID, "state", state)
		return err
	}
	nspawn, err := supervisor(p)
	if err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(nspawn, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", nspawn, err)
	}
	defer unix.Close(pidfd)
	held, err := holds(nspawn, p.Dir())
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if !held { // the pod has ended, rkt-gc has its lock, and another process may have the number
		return nil
	}
	signal := unix.SIGKILL
	if !force {
		signal = unix.SIGTERM
		awaitSignals(p)
	}
	log.Debug("signals systemd-nspawn", "pod", p.UUID, "process", nspawn, "signal", signal)
	if err := unix.PidfdSendSignal(pidfd, signal, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("process %d: %w", nspawn, err)
	}
	if !force {
		return nil
	}
	if err := awaitEnd(pidfd); err != nil {
		return fmt.Errorf("process %d: %w", nspawn, err)
	}
	return KillRemains(p, log)
}

// awaitSignals waits until the pod's systemd takes signals. The kernel drops one that reaches a PID 1 without a handler, and the pod
// would not hear of the stop.
func awaitSignals(p *pod.Pod) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		leader, err := Leader(p)
		if err != nil {
			return
		}
		blocked, err := status(leader, "SigBlk") // systemd reads its signals from a descriptor
		if err != nil {
			continue
		}
		if mask, err := strconv.ParseUint(blocked, 16, 64); err != nil || mask&(1<<(haltSignal-1)) != 0 {
			return
		}
	}
}
