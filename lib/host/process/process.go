// Package process tells processes of the host apart, and asks the kernel about them (proc(5)).
package process

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// StartTime is when a process was started, in clock ticks since the boot (proc(5), stat), or the
// end of time for one that is gone.
func StartTime(pid int) uint64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// the name before may hold anything
	_, after, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')')+1:]), " ")
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

// ID identifies a process for as long as the host runs.
func ID(pid int) string { return fmt.Sprintf("%d.%d", pid, StartTime(pid)) }

// Lives reports whether there is a process of that number that has not exited.
func Lives(pid int) bool {
	state, err := Status(pid, "State")
	return err == nil && !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// Children are those of a process, for as far as the kernel tells (CONFIG_PROC_CHILDREN), else by a
// look at every process.
func Children(pid int) []int {
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
	return All(func(child int) bool {
		ppid, err := Status(child, "PPid")
		return err == nil && ppid == strconv.Itoa(pid)
	})
}

// All are the processes that match.
func All(match func(pid int) bool) []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, dir := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && match(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Status is a field of /proc/PID/status.
func Status(pid int, field string) (string, error) {
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

// InPIDNamespace reports whether a process is in another's PID namespace, or in one that was made
// there.
func InPIDNamespace(a, b int) bool { return SamePIDNamespace(a, b) || NestedPIDNamespace(a, b) }

// NestedPIDNamespace reports whether a process is in a PID namespace that was made in another
// process's.
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

// SamePIDNamespace reports whether two processes number processes alike.
func SamePIDNamespace(a, b int) bool { return SameNamespace(a, b, "pid") }

// inOtherPIDNamespace reports whether two processes number processes differently. One that has
// ended does not: the parent may have had a child that made the namespace.
func inOtherPIDNamespace(a, b int) bool {
	x, errX := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", a))
	y, errY := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", b))
	return errX == nil && errY == nil && x != y
}

// SameNamespace reports whether two processes share a namespace of a kind, by its name in
// /proc/PID/ns.
func SameNamespace(a, b int, kind string) bool {
	x, errX := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", a, kind))
	y, errY := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", b, kind))
	return errX == nil && errY == nil && x == y
}

// BoundingSet is the set of capabilities that a process may have at most, a bit each.
func BoundingSet(pid int) (uint64, error) {
	hex, err := Status(pid, "CapBnd")
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(hex, 16, 64)
}

// Group is a process's path in the hierarchy that systemd manages (cgroups(7)), or "".
func Group(pid int) string {
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

// AwaitEnd waits until a process has ended, for as long as limit, or without one for 0.
func AwaitEnd(pidfd int, limit time.Duration) (ended bool, err error) {
	for end := time.Now().Add(limit); ; {
		left := -1 // for ever
		if limit > 0 {
			left = int(max(0, time.Until(end)+time.Millisecond-1) / time.Millisecond)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, left)
		if err != unix.EINTR {
			return n > 0, err
		}
	}
}

// Init is the child of a process that is PID 1 of a PID namespace of its own, and reports whether
// that has started a process. It is 0 where there is none yet.
func Init(parent int) (pid int, started bool) {
	for _, child := range Children(parent) {
		if inOtherPIDNamespace(child, parent) {
			return child, len(Children(child)) > 0
		}
	}
	return 0, false
}

// UnifiedGroup is a process's path in the hierarchy of version 2 (cgroups(7)), or "".
func UnifiedGroup(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path
		}
	}
	return ""
}

// NoInput has the process, and what it becomes, read nothing from its standard input.
func NoInput() error {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	defer unix.Close(null)
	return unix.Dup3(null, unix.Stdin, 0)
}
