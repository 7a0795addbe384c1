package confine

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errnos is more than the highest error number of the kernel.
const errnos = 134

// Failure is what a process says on standard error, and exits with, when it can't become the
// program.
type Failure struct {
	Filter, Exec             func(unix.Errno) string // a line; by the step that failed
	FilterStatus, ExecStatus int
}

// Program is a program to execute, with all that is needed for it in memory: from the first seccomp
// filter on Go's runtime may not be used any more.
type Program struct {
	Terminal bool // standard input becomes the controlling terminal
	Ignoring bool // signals that the process ignores are ignored in the program, too
	Report   int  // a descriptor to which a failure is written, besides standard error; none if it is below 3

	filters  []unix.SockFprog
	file     *byte
	argv     []*byte
	env      []*byte
	filter   messages
	exec     messages
	all      uint64      // a mask of all signals
	none     uint64      // and of none
	action   [16]uintptr // struct sigaction, whose first word is the handler
	standard [16]uintptr
	pid      uint32
}

// messages are the lines to be said, by error number.
type messages struct {
	text   [errnos][]byte
	status uintptr
}

func newMessages(line func(unix.Errno) string, status int) (m messages) {
	m.status = uintptr(status)
	for e := range errnos {
		m.text[e] = []byte(line(unix.Errno(e)) + "\n")
	}
	return m
}

// NewProgram returns the program at the path file, with arguments and environment as execve(2)
// takes them, and the seccomp filters that are loaded before it is executed, in their order. It is
// an error if a string contains a NUL byte, or argv is empty.
func NewProgram(file string, argv, env [][]byte, filters [][]unix.SockFilter, failure Failure) (*Program, error) {
	p := &Program{
		all:    ^uint64(0),
		filter: newMessages(failure.Filter, failure.FilterStatus),
		exec:   newMessages(failure.Exec, failure.ExecStatus),
	}
	if len(argv) == 0 {
		return nil, fmt.Errorf("%s: has no arguments, not even its name", file)
	}
	var err error
	if p.file, err = unix.BytePtrFromString(file); err != nil {
		return nil, fmt.Errorf("%q: has a NUL byte", file)
	}
	if p.argv, err = pointers(argv); err != nil {
		return nil, err
	}
	if p.env, err = pointers(env); err != nil {
		return nil, err
	}
	for _, filter := range filters {
		p.filters = append(p.filters, unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	}
	return p, nil
}

// pointers are strings as execve(2) wants them.
func pointers(list [][]byte) (p []*byte, err error) {
	for _, s := range list {
		b, err := unix.BytePtrFromString(string(s))
		if err != nil {
			return nil, fmt.Errorf("%q: has a NUL byte", s)
		}
		p = append(p, b)
	}
	return append(p, nil), nil
}

// Fork forks a child that becomes the program, writes its process ID to the descriptor report, 4
// bytes in the machine's order, and exits: it returns only if there is no child. The calling thread
// must be one that the pod may have: the child is a copy of it, with a copy of the memory, and
// appears in the pod. Its parent may not be seen there and does not share memory with it, as the
// parent of a child of os/exec does.
//
//go:norace
//go:nosplit
func (p *Program) Fork(report uintptr) unix.Errno {
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&p.all)), 0, 8, 0, 0)
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		unix.RawSyscall(unix.SYS_CLOSE, report, 0, 0)
		p.Become()
	}
	p.pid = uint32(pid)
	unix.RawSyscall(unix.SYS_WRITE, report, uintptr(unsafe.Pointer(&p.pid)), 4)
	exit(0)
	return 0
}

// Become turns the process into the program. It does not return: if that fails, the process says so
// and exits.
//
//go:norace
//go:nosplit
func (p *Program) Become() {
	unix.RawSyscall(unix.SYS_SETSID, 0, 0, 0) // otherwise /dev/tty would be the caller's terminal
	if p.Terminal {
		unix.RawSyscall(unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	ignored := uintptr(0) // SIG_IGN is 1; Go's handlers are of no use
	if p.Ignoring {
		ignored = 1
	}
	for signal := uintptr(1); signal <= 64; signal++ {
		p.action[0] = 0
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, signal, 0, uintptr(unsafe.Pointer(&p.action)), 8, 0, 0)
		if p.action[0] > ignored {
			unix.RawSyscall6(unix.SYS_RT_SIGACTION, signal, uintptr(unsafe.Pointer(&p.standard)), 0, 8, 0, 0)
		}
	}
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&p.none)), 0, 8, 0, 0)
	for i := range p.filters {
		_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0,
			uintptr(unsafe.Pointer(&p.filters[i])))
		if errno != 0 {
			p.fail(&p.filter, errno)
		}
	}
	_, _, errno := unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(p.file)),
		uintptr(unsafe.Pointer(&p.argv[0])),
		uintptr(unsafe.Pointer(&p.env[0])))
	p.fail(&p.exec, errno)
}

//go:norace
//go:nosplit
func (p *Program) fail(m *messages, errno unix.Errno) {
	if errno >= errnos {
		errno = 0
	}
	text := m.text[errno]
	unix.RawSyscall(unix.SYS_WRITE, 2, uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)))
	if p.Report > 2 {
		unix.RawSyscall(unix.SYS_WRITE, uintptr(p.Report), uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)))
	}
	exit(m.status)
}

// exit ends the process, whatever it is allowed to call.
//
//go:norace
//go:nosplit
func exit(status uintptr) {
	for {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, status, 0, 0)
		*(*byte)(nil) = 0
	}
}
