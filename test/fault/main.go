//go:build amd64

// Fault runs a program and lets one of its system calls go wrong, by ptrace(2).
//
//	fault count PROGRAM [ARG...]     how many system calls that change something it makes: the
//	                                 exit status of PROGRAM, the number in fd 3
//	fault kill N PROGRAM [ARG...]    SIGKILL for PROGRAM instead of the Nth of them
//	fault ERRNO N PROGRAM [ARG...]   the Nth does nothing and fails: ENOSPC, EIO, EMFILE, ENOMEM
//	fault without FEATURE PROGRAM [ARG...]
//	                                 what needs a feature of the kernel fails as where there is
//	                                 none: mount_setattr, overlay
//
// All threads of PROGRAM count together, the programs that it calls do not, and when it becomes
// another one, it is let go. Calls that change something are those that make, write, rename or
// remove files, mount, send messages, change namespaces, make processes, execute, lock. Fault exits
// as PROGRAM does, with 128+n for a signal, and with 125 if PROGRAM made fewer than N such calls,
// or none that needs the feature, and so nothing went wrong.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// changing are the system calls that count, some of them only with certain arguments (see changes).
var changing = map[uint64]bool{}

func init() {
	for _, nr := range []uint64{
		unix.SYS_OPEN, unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_CREAT, unix.SYS_MKDIR, unix.SYS_MKDIRAT,
		unix.SYS_MKNOD, unix.SYS_MKNODAT,
		unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINK, unix.SYS_LINKAT, unix.SYS_SYMLINK,
		unix.SYS_SYMLINKAT,
		unix.SYS_UNLINK, unix.SYS_UNLINKAT, unix.SYS_RMDIR, unix.SYS_TRUNCATE, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE,
		unix.SYS_COPY_FILE_RANGE,
		unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNCFS,
		unix.SYS_CHMOD, unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_CHOWN, unix.SYS_FCHOWN, unix.SYS_LCHOWN,
		unix.SYS_FCHOWNAT, unix.SYS_UTIMENSAT,
		unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR,
		unix.SYS_FREMOVEXATTR,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_FSMOUNT,
		unix.SYS_MOUNT_SETATTR,
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_FLOCK, unix.SYS_SENDTO,
		unix.SYS_SENDMSG, unix.SYS_CONNECT,
		unix.SYS_BIND, unix.SYS_EXECVE, unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_VFORK, unix.SYS_KILL,
		unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_IOCTL,
	} {
		changing[nr] = true
	}
}

// changes reports whether a system call that a thread is about to make changes something.
func changes(pid int, regs *unix.PtraceRegs) bool {
	if !changing[regs.Orig_rax] {
		return false
	}
	const writes = unix.O_CREAT | unix.O_TRUNC | unix.O_WRONLY | unix.O_RDWR
	switch regs.Orig_rax {
	case unix.SYS_OPEN:
		return regs.Rsi&writes != 0
	case unix.SYS_OPENAT:
		return regs.Rdx&writes != 0
	case unix.SYS_OPENAT2:
		how := make([]byte, 8)
		_, err := unix.PtracePeekData(pid, uintptr(regs.Rdx), how)
		return err == nil && how[0]&(unix.O_WRONLY|unix.O_RDWR|unix.O_CREAT) != 0
	case unix.SYS_CLONE:
		return regs.Rdi&unix.CLONE_THREAD == 0
	case unix.SYS_CLONE3:
		flags := make([]byte, 8)
		_, err := unix.PtracePeekData(pid, uintptr(regs.Rdi), flags)
		return err == nil && flags[2]&(unix.CLONE_THREAD>>16) == 0
	case unix.SYS_IOCTL:
		return regs.Rsi == unix.FICLONE || regs.Rsi == unix.FICLONERANGE
	// not those to its standard streams, and between its threads
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV:
		file, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, regs.Rdi))
		return err == nil && strings.HasPrefix(file, "/") && regs.Rdi > 2
	}
	return true
}

// features are what a kernel may lack, with the system calls that need it, and the error of those
// where there is none.
var features = map[string]struct {
	errno unix.Errno
	needs func(pid int, regs *unix.PtraceRegs) bool
}{
	"mount_setattr": {unix.ENOSYS, func(_ int, regs *unix.PtraceRegs) bool {
		return regs.Orig_rax == unix.SYS_MOUNT_SETATTR
	}},
	"overlay": {unix.ENODEV, func(pid int, regs *unix.PtraceRegs) bool {
		kind := make([]byte, len("overlay")+1)
		at := map[uint64]uint64{unix.SYS_MOUNT: regs.Rdx, unix.SYS_FSOPEN: regs.Rdi}[regs.Orig_rax]
		_, err := unix.PtracePeekData(pid, uintptr(at), kind)
		return at != 0 && err == nil && string(kind) == "overlay\x00"
	}},
}

func main() {
	status, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault:", err)
		os.Exit(124)
	}
	os.Exit(status)
}

func run(args []string) (status int, err error) {
	if len(args) < 2 {
		return 0, fmt.Errorf("usage: fault count|kill N|ERRNO N|without FEATURE PROGRAM [ARG...]")
	}
	kind, at := args[0], -1
	args = args[1:]
	var errno unix.Errno
	fails := changes
	switch kind {
	case "count":
	case "without":
		feature, ok := features[args[0]]
		if !ok {
			return 0, fmt.Errorf("%q is no feature", args[0])
		}
		errno, fails, args = feature.errno, feature.needs, args[1:]
	default:
		if at, err = strconv.Atoi(args[0]); err != nil {
			return 0, err
		}
		args = args[1:]
		var ok bool
		errno, ok = map[string]unix.Errno{"kill": 0, "ENOSPC": unix.ENOSPC, "EIO": unix.EIO, "EMFILE": unix.EMFILE,
			"ENOMEM": unix.ENOMEM}[kind]
		if !ok {
			return 0, fmt.Errorf("%q is no fault", kind)
		}
	}
	t := &tracee{at: at, every: kind == "without", counts: fails, errno: errno, failing: map[int]bool{}}
	status, err = t.run(args)
	if kind == "count" {
		fmt.Fprintln(os.NewFile(3, "count"), t.calls)
		return status, err
	}
	if !t.done && err == nil {
		return 125, nil
	}
	return status, err
}

// tracee is a program with one fault.
type tracee struct {
	at      int // which call, from 1; -1 for none
	every   bool
	counts  func(pid int, regs *unix.PtraceRegs) bool
	errno   unix.Errno
	calls   int
	done    bool
	failing map[int]bool // threads that are in the call that is to fail
}

func (t *tracee) run(argv []string) (status int, err error) {
	runtime.LockOSThread() // ptrace(2) is for the thread that traces
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	main := cmd.Process.Pid
	var ws unix.WaitStatus
	if _, err := unix.Wait4(main, &ws, unix.WALL, nil); err != nil { // stopped by its own execve
		return 0, err
	}
	options := unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(main, options); err != nil {
		return 0, err
	}
	if err := unix.PtraceSyscall(main, 0); err != nil {
		return 0, err
	}
	entering := map[int]bool{}
	for {
		pid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		if ws.Exited() || ws.Signaled() {
			delete(entering, pid)
			if pid != main {
				continue
			}
			if ws.Signaled() {
				return 128 + int(ws.Signal()), nil
			}
			return ws.ExitStatus(), nil
		}
		deliver := 0
		switch signal := ws.StopSignal(); {
		case signal == unix.SIGTRAP|0x80:
			entering[pid] = !entering[pid]
			if err := t.call(pid, main, entering[pid]); err != nil && err != unix.ESRCH {
				return 0, err
			}
		case signal == unix.SIGTRAP && ws.TrapCause() == unix.PTRACE_EVENT_EXEC: // it has become another program
			if err := unix.PtraceDetach(pid); err != nil {
				return 0, err
			}
			continue
		case signal == unix.SIGTRAP && ws.TrapCause() > 0, signal == unix.SIGSTOP: // a new thread
		default:
			deliver = int(signal)
		}
		if err := unix.PtraceSyscall(pid, deliver); err != nil && err != unix.ESRCH {
			return 0, err
		}
	}
}

// call is told of a system call when a thread enters and when it leaves it.
func (t *tracee) call(pid, main int, entering bool) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	if !entering {
		if t.failing[pid] {
			delete(t.failing, pid)
			regs.Rax = uint64(-int64(t.errno))
			return unix.PtraceSetRegs(pid, &regs)
		}
		return nil
	}
	if t.done && !t.every || !t.counts(pid, &regs) {
		return nil
	}
	if t.calls++; t.calls != t.at && !t.every {
		return nil
	}
	t.done = true
	if t.errno == 0 {
		return unix.Kill(main, unix.SIGKILL)
	}
	t.failing[pid] = true
	regs.Orig_rax = ^uint64(0) // no system call
	return unix.PtraceSetRegs(pid, &regs)
}
