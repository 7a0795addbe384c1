package running

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/pod"
	"golang.org/x/sys/unix"
)

// haltSignal is SIGRTMIN+3, by which systemd-nspawn asks the pod's systemd to halt; glibc keeps the first two real-time signals.
const haltSignal = 34 + 3

// Stop asks a running pod to end in order, or with force kills it. It does not wait for the end. A pod that does not run is no error.
func Stop(p *pod.Pod, force bool) error {
	state, err := p.State()
	if err != nil || state != pod.Running {
		return err
	}
	text, err := os.ReadFile(p.Path(pod.PIDFile))
	if err != nil {
		return err
	}
	nspawn, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s: %w", p.Path(pod.PIDFile), err)
	}
	pidfd, err := unix.PidfdOpen(nspawn, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", nspawn, err)
	}
	defer unix.Close(pidfd)
	if state, err := p.State(); err != nil || state != pod.Running { // now the descriptor is known to be of the lock's holder
		return err
	}
	signal := unix.SIGKILL
	if !force {
		signal = unix.SIGTERM
		awaitSignals(p)
	}
	if err := unix.PidfdSendSignal(pidfd, signal, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("process %d: %w", nspawn, err)
	}
	return nil
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
			return
		}
		if mask, err := strconv.ParseUint(blocked, 16, 64); err != nil || mask&(1<<(haltSignal-1)) != 0 {
			return
		}
	}
}
