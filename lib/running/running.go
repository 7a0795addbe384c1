// Package running finds the processes of a running pod, and stops it.
package running

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/pod"
	"golang.org/x/sys/unix"
)

// Leader is the pod's PID 1 as the host numbers it: the one child of systemd-nspawn that is in a PID namespace of its own. The pod's
// lock tells that the process in the file ppid is still systemd-nspawn and not another of that number.
func Leader(p *pod.Pod) (int, error) {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		state, err := p.State()
		if err != nil {
			return 0, err
		}
		if state != pod.Running {
			return 0, fmt.Errorf("pod %s: is not running (its state is: %s)", p.UUID, state)
		}
		text, err := os.ReadFile(p.Path(pod.PIDFile))
		if err != nil {
			return 0, err
		}
		nspawn, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.Path(pod.PIDFile), err)
		}
		for _, child := range children(nspawn) {
			if !SamePIDNamespace(nspawn, child) {
				return child, nil
			}
		}
		if time.Now().After(end) {
			return 0, fmt.Errorf("pod %s: is still starting", p.UUID)
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

// AppProcess is a process of an app: one in the control group of the app's unit, whose root directory is the app's root. One that the
// pod's systemd has just forked for the app is not yet, and still has all the power of systemd. It is 0 when the app has none.
func AppProcess(leader int, app, root string) int {
	own := controlGroup(leader)
	unit := strings.TrimSuffix(own, "/init.scope") + "/system.slice/" + app + ".service"
	var want, got unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/root%s", leader, root), &want); err != nil || own == "" {
		return 0
	}
	found := processes(func(pid int) bool {
		group := controlGroup(pid)
		return (group == unit || strings.HasPrefix(group, unit+"/")) && SamePIDNamespace(leader, pid) &&
			SameNamespace(leader, pid, "user") && unix.Stat(fmt.Sprintf("/proc/%d/root", pid), &got) == nil && got.Dev == want.Dev && got.Ino == want.Ino
	})
	if len(found) == 0 {
		return 0
	}
	return found[0]
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

// SamePIDNamespace tells whether two processes number processes alike.
func SamePIDNamespace(a, b int) bool { return SameNamespace(a, b, "pid") }

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

// NoNewPrivileges tells whether a process can't gain privileges by executing a program.
func NoNewPrivileges(pid int) (bool, error) {
	value, err := status(pid, "NoNewPrivs")
	return value == "1", err
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
