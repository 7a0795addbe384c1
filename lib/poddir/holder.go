package poddir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"golang.org/x/sys/unix"
)

// Supervisor is the process ID that the pod has or had on the host: that of rkt-run-prepared, and
// of what this has become.
func (p *Pod) Supervisor() (int, error) {
	text, err := p.ReadFile(PIDFile)
	if err != nil {
		return 0, err
	}
	supervisor, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", p.Path(PIDFile), err)
	}
	return supervisor, nil
}

// ended reports whether a pod that was run and whose lock is taken has exited all the same: another
// program has the lock, or the kernel has not yet released that of a killed one. Who may not look
// runs no risk in taking it for running.
func (p *Pod) ended() bool {
	supervisor, err := p.Supervisor()
	if err != nil {
		return false
	}
	held, err := p.HeldBy(supervisor)
	return err == nil && !held
}

// HeldBy reports whether a process has the pod's lock, an exclusive flock(2) of the directory. A
// process that merely got the number of one that had it does not.
//
// Each thread is asked: when one that is not the first executes a program, the kernel ends the
// first one, and for an instant the process seems to have no file open. The one that executes then
// gets the first one's number; so a second look may see what the first one missed.
func (p *Pod) HeldBy(pid int) (bool, error) {
	var want unix.Stat_t
	if err := unix.Lstat(p.Dir(), &want); err != nil {
		return false, &os.PathError{Op: "lstat", Path: p.Dir(), Err: err}
	}
	for range 4 {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid)) // proc(5)
		if isGone(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		for _, thread := range threads {
			held, err := holds(fmt.Sprintf("/proc/%d/task/%s", pid, thread.Name()), want)
			if held || err != nil && !isGone(err) {
				return held, err
			}
		}
		time.Sleep(time.Millisecond)
	}
	return false, nil
}

// isGone reports whether an error of /proc says that a process or thread has ended.
func isGone(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// holds reports whether a thread, by its directory in /proc, has the exclusive lock of a file.
func holds(thread string, want unix.Stat_t) (bool, error) {
	files, err := os.ReadDir(thread + "/fdinfo")
	if err != nil {
		return false, err
	}
	var got unix.Stat_t
	for _, file := range files {
		info, err := os.ReadFile(filepath.Join(thread, "fdinfo", file.Name()))
		if err != nil || !strings.Contains(string(info), "FLOCK  ADVISORY  WRITE") {
			continue
		}
		if unix.Stat(filepath.Join(thread, "fd", file.Name()), &got) == nil && got.Dev == want.Dev &&
			got.Ino == want.Ino {
			return true, nil
		}
	}
	return false, nil
}

// LockEnded is Lock for a pod that does not run: it waits for other programs that work on the pod,
// for as long as waitLimit. It is durable.ErrLocked for one that runs or is being prepared, at
// once.
func (p *Pod) LockEnded(ctx context.Context, waitLimit time.Duration) (*os.File, error) {
	for end := time.Now().Add(waitLimit); ; {
		lock, err := p.Lock()
		if !errors.Is(err, durable.ErrLocked) {
			return lock, err
		}
		state, unknown := p.State()
		if unknown != nil {
			return nil, unknown
		}
		if state.Lives() || ctx.Err() != nil || time.Now().After(end) {
			return nil, err
		}
	}
}
