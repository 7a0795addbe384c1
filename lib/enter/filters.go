package enter

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// formerFilters are those that systemd-nspawn and rkt-run-prepared have put on the PID 1 of a pod that an older rkt
// prepared. A process of the app is not asked. PID 1 can add filters to its own, and never remove one.
func formerFilters(leader int) ([][]unix.SockFilter, error) {
	list, err := filtersOf(leader)
	if err != nil {
		return nil, fmt.Errorf("seccomp filter of the pod: %w", err)
	}
	for _, filter := range list {
		if !isPlain(filter) {
			return nil, errors.New("seccomp filter of the pod: it does more than allow and deny, so it is not systemd-nspawn's " +
				"(--insecure-options=seccomp ignores it)")
		}
	}
	return list, nil
}

// isPlain reports whether a filter only allows calls, or denies them with an error or death. One that lets a call
// succeed without doing anything, or hands it to another process, could keep the filters after it from being loaded.
func isPlain(filter []unix.SockFilter) bool {
	for _, i := range filter {
		if i.Code&0x07 != unix.BPF_RET {
			continue
		}
		if i.Code != unix.BPF_RET|unix.BPF_K {
			return false
		}
		switch i.K & unix.SECCOMP_RET_ACTION_FULL {
		case unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_KILL_PROCESS, unix.SECCOMP_RET_KILL_THREAD:
		case unix.SECCOMP_RET_ERRNO:
			if i.K&unix.SECCOMP_RET_DATA == 0 {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// filtersOf reads the seccomp filters of a process, the oldest first. The process is stopped for as long as that
// takes, by ptrace(2).
func filtersOf(pid int) ([][]unix.SockFilter, error) {
	if err := unix.PtraceSeize(pid); err != nil {
		return nil, fmt.Errorf("can't be read: ptrace: %w", err)
	}
	var status unix.WaitStatus
	err := unix.PtraceInterrupt(pid)
	if err == nil {
		_, err = unix.Wait4(pid, &status, unix.WALL, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("can't be read: ptrace: %w", err)
	}
	if status.Exited() || status.Signaled() {
		return nil, errors.New("has just ended")
	}
	found, err := filtersOfStopped(pid)
	signal := 0
	if s := status.StopSignal(); status.Stopped() && s != unix.SIGTRAP { // one that it was sent meanwhile: it gets it
		signal = int(s)
	}
	unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(pid), 0, uintptr(signal), 0, 0)
	return found, err
}

func filtersOfStopped(pid int) (found [][]unix.SockFilter, err error) {
	get := func(index int, into *unix.SockFilter) (int, error) {
		n, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(pid), uintptr(index),
			uintptr(unsafe.Pointer(into)), 0, 0)
		if errno != 0 {
			return 0, errno
		}
		return int(n), nil
	}
	for index := 0; ; index++ {
		n, err := get(index, nil)
		switch err {
		case unix.ENOENT, unix.EINVAL: // no more, or none at all
			return found, nil
		case unix.EACCES:
			return nil, errors.New("can't be read by a program that is filtered itself; --insecure-options=seccomp goes without")
		}
		if err != nil {
			return nil, err
		}
		filter := make([]unix.SockFilter, n)
		if _, err := get(index, &filter[0]); err != nil {
			return nil, err
		}
		found = append([][]unix.SockFilter{filter}, found...) // the kernel counts from the newest
	}
}
