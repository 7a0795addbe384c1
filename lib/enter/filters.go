package enter

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// filters reads the filters of system calls that a process has, the oldest first. The process is stopped for as long as that takes, by
// ptrace(2).
func filters(pid int) ([][]unix.SockFilter, error) {
	if err := unix.PtraceSeize(pid); err != nil {
		return nil, fmt.Errorf("its filter of system calls can't be read: ptrace: %w", err)
	}
	var status unix.WaitStatus
	err := unix.PtraceInterrupt(pid)
	if err == nil {
		_, err = unix.Wait4(pid, &status, unix.WALL, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("its filter of system calls can't be read: ptrace: %w", err)
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
			return nil, errors.New("its filter of system calls can't be read by a program that is filtered itself; " +
				"--insecure-options=seccomp goes without")
		}
		if err != nil {
			return nil, fmt.Errorf("its filter of system calls: %w", err)
		}
		filter := make([]unix.SockFilter, n)
		if _, err := get(index, &filter[0]); err != nil {
			return nil, fmt.Errorf("its filter of system calls: %w", err)
		}
		found = append([][]unix.SockFilter{filter}, found...) // the kernel counts from the newest
	}
}
