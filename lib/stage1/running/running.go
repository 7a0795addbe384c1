// Package running finds the processes of a running pod, and stops it.
package running

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

// Leader is the pod's PID 1 as the host numbers it: the one child of systemd-nspawn that is in a PID namespace of its own. That it has
// the pod's lock tells that the process in the file ppid is still systemd-nspawn and not another of that number.
func Leader(p *poddir.Pod) (int, error) {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		state, err := p.State()
		if err != nil {
			return 0, err
		}
		if state != poddir.Running {
			return 0, fmt.Errorf("pod %q isn't currently running (its state is: %s)", p.UUID, state)
		}
		nspawn, err := p.Supervisor()
		if err != nil {
			return 0, err
		}
		held, err := p.HeldBy(nspawn)
		if err != nil {
			return 0, fmt.Errorf("pod %s: %w", p.UUID, err)
		}
		if !held { // another program has the lock
			return 0, fmt.Errorf("pod %s: is not running: its systemd-nspawn has ended", p.UUID)
		}
		if pid, _ := Init(nspawn); pid != 0 {
			return pid, nil
		}
		if time.Now().After(end) {
			return 0, fmt.Errorf("pod %s: is still starting", p.UUID)
		}
	}
}

// LockEnded is pod.Lock for a pod that does not run: it waits for other programs that work on the pod, for as long as patience. It is
// durable.ErrLocked for one that runs or is being prepared, at once.
func LockEnded(ctx context.Context, p *poddir.Pod, patience time.Duration) (*os.File, error) {
	for end := time.Now().Add(patience); ; {
		lock, err := p.Lock()
		if !errors.Is(err, durable.ErrLocked) {
			return lock, err
		}
		state, unknown := p.State()
		if unknown != nil {
			return nil, unknown
		}
		if state == poddir.Preparing || state == poddir.Running && !p.Ended() || ctx.Err() != nil || time.Now().After(end) {
			return nil, err
		}
	}
}

// children of a process, for as far as the kernel tells (CONFIG_PROC_CHILDREN), else by a look at every process.
func children(pid int) []int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err == nil {
		var pids []int
		for f := range strings.FieldsSeq(string(text)) {
			if n, err := strconv.Atoi(f); err == nil {
				pids = append(pids, n)
			}
		}
		return pids
	}
	return processes(func(child int) bool {
		ppid, err := status(child, "PPid")
		return err == nil && ppid == strconv.Itoa(pid)
	})
}

// AppProcesses are the processes of an app, the oldest first: those in the cgroup of the app's unit, whose root directory is the app's
// root. One that the pod's systemd has just forked for the app may be one already, and still have all the power of systemd.
func AppProcesses(leader int, app, root string) []int {
	unit := unitGroup(leader, app)
	var want, got unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/root%s", leader, root), &want); err != nil || unit == "" {
		return nil
	}
	started := map[int]uint64{}
	found := processes(func(pid int) bool {
		group := controlGroup(pid)
		if group != unit && !strings.HasPrefix(group, unit+"/") || !InPIDNamespace(leader, pid) ||
			unix.Stat(fmt.Sprintf("/proc/%d/root", pid), &got) != nil || got.Dev != want.Dev || got.Ino != want.Ino {
			return false
		}
		started[pid] = StartTime(pid)
		return true
	})
	slices.SortFunc(found, func(a, b int) int { return cmp.Or(cmp.Compare(started[a], started[b]), a-b) })
	return found
}

// Init is the PID 1 of the pod that a systemd-nspawn runs, as the host numbers it, and reports whether that has started
// a process. It is 0 if systemd-nspawn has not made the pod yet.
func Init(nspawn int) (pid int, started bool) {
	for _, child := range children(nspawn) {
		if inOtherPIDNamespace(child, nspawn) {
			return child, len(children(child)) > 0
		}
	}
	return 0, false
}

// StartTime is when a process was started, in clock ticks since the boot (proc(5), stat), or the end of time for one
// that is gone.
func StartTime(pid int) uint64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')')+1:]), " ") // the name before may hold anything
	fields := strings.Fields(after)
	if len(fields) < 20 {
		return math.MaxUint64
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return math.MaxUint64
	}
	return ticks
}

// Process identifies a process for as long as the host runs.
func Process(pid int) string { return fmt.Sprintf("%d.%d", pid, StartTime(pid)) }

// Lives reports whether there is a process of that number that has not exited.
func Lives(pid int) bool {
	state, err := status(pid, "State")
	return err == nil && !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// controlGroup is a process's path in the hierarchy that systemd manages (cgroups(7)), or "".
func controlGroup(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	group := ""
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) == 3 && (f[1] == "" && (group == "" || f[2] != "/") || f[1] == "name=systemd" && f[2] != "/") {
			group = f[2]
		}
	}
	return group
}

func processes(match func(pid int) bool) []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, dir := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && match(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// InPIDNamespace reports whether a process is in another's PID namespace, or in one that was made there.
func InPIDNamespace(a, b int) bool { return SamePIDNamespace(a, b) || NestedPIDNamespace(a, b) }

// NestedPIDNamespace reports whether a process is in a PID namespace that was made in another process's.
func NestedPIDNamespace(outer, inner int) bool {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", inner))
	if err != nil {
		return false
	}
	defer ns.Close()
	fd, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_PARENT)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var parent, own unix.Stat_t
	return unix.Fstat(fd, &parent) == nil && unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", outer), &own) == nil &&
		parent.Dev == own.Dev && parent.Ino == own.Ino
}

// SamePIDNamespace tells whether two processes number processes alike.
func SamePIDNamespace(a, b int) bool { return SameNamespace(a, b, "pid") }

// inOtherPIDNamespace tells whether two processes number processes differently. One that has ended does not: systemd-nspawn has a child that
// sets up the pod and ends when the pod's PID 1 is there.
func inOtherPIDNamespace(a, b int) bool {
	x, errX := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", a))
	y, errY := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", b))
	return errX == nil && errY == nil && x != y
}

// SameNamespace tells whether two processes share a namespace of a kind, by its name in /proc/PID/ns.
func SameNamespace(a, b int, kind string) bool {
	x, errX := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", a, kind))
	y, errY := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", b, kind))
	return errX == nil && errY == nil && x == y
}

// BoundingSet is the set of capabilities that a process may have at most, a bit each.
func BoundingSet(pid int) (uint64, error) {
	hex, err := status(pid, "CapBnd")
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(hex, 16, 64)
}

// status is a field of /proc/PID/status.
func status(pid int, field string) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", errors.New("/proc: no field " + field)
}
