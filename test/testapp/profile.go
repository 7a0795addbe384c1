package main

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/seccomp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// marker is the fifth argument of a call that is tried: probe has the kernel refuse it with ENOSYS
// before it is made, if no filter of the app's has refused it with another error.
const marker = 0x52cb71d3

// profile tries each system call of x86-64 and i386, and some with arguments, and compares the
// answer with the default profile's for an app with these capabilities.
func profile(capabilities []string) {
	runtime.LockOSThread()
	check(probe())
	rules := seccomp.Default(capabilities)
	for _, abi := range []struct {
		name string
		id   uint32
		call func(number, a, c uint32) syscall.Errno
	}{
		{"x86-64", unix.AUDIT_ARCH_X86_64, func(number, a, c uint32) syscall.Errno {
			_, _, errno := syscall.RawSyscall6(uintptr(number), uintptr(a), 0, uintptr(c), 0, marker, 0)
			return errno
		}},
		{"i386", unix.AUDIT_ARCH_I386, func(number, a, c uint32) syscall.Errno {
			return syscall.Errno(-int32(int80(number, a, 0, c, marker)))
		}},
	} {
		numbers, err := seccomp.Numbers(abi.id)
		check(err)
		var allowed, refused, wrong int
		var pod []string
		for _, name := range slices.Sorted(maps.Keys(numbers)) {
			if name == "uretprobe" || name == "uprobe" {
				// which the kernel passes by all filters, and answers with SIGILL
				continue
			}
			number := numbers[name]
			for _, args := range arguments(name) {
				want := answer(rules, name, args)
				got := abi.call(number, args[0], args[1])
				if want == syscall.ENOSYS {
					allowed++
				} else {
					refused++
				}
				if want == syscall.ENOSYS && name == "socket" && args[1] == unix.NETLINK_AUDIT {
					want = syscall.EAFNOSUPPORT // the pod's filter has it so, whatever the capabilities are
				}
				if want == syscall.ENOSYS && got == syscall.EPERM {
					pod = append(pod, name)
				} else if got != want {
					wrong++
					fmt.Fprintf(os.Stderr, "%s: %s%v: %v, not %v\n", abi.name, name, args, got, want)
				}
			}
		}
		fmt.Println(strings.Join(append([]string{"refused by the pod's filter:"}, pod...), " "))
		fmt.Printf("%s: %d allowed, %d refused, %d wrong\n", abi.name, allowed, refused, wrong)
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_GETPID|0x40000000, 0, 0, 0)
	fmt.Println("x32:", word(result(errno)))
	_, _, errno = syscall.RawSyscall(unix.SYS_CLONE3, 0, 0, 0)
	fmt.Println("clone3:", word(result(errno)))
	_, _, errno = syscall.RawSyscall(100000, 0, 0, 0)
	fmt.Println("unknown:", word(result(errno)))
	_, _, errno = syscall.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1) // which version?
	fmt.Println("landlock:", errno != syscall.EPERM)
}

// arguments are the first and the third argument with which a call is tried.
func arguments(call string) [][2]uint32 {
	switch call {
	case "clone":
		return [][2]uint32{{}, {unix.CLONE_NEWNS}, {unix.CLONE_NEWNET}, {unix.CLONE_NEWPID | unix.CLONE_VM}}
	case "personality":
		return [][2]uint32{{}, {0xffffffff}, {0x40000}}
	case "socket":
		return [][2]uint32{{unix.AF_INET}, {unix.AF_ALG}, {unix.AF_VSOCK}, {unix.AF_NETLINK},
			{unix.AF_NETLINK, unix.NETLINK_AUDIT}, {1000}}
	}
	return make([][2]uint32, 1)
}

// answer is the error of the first rule that holds; ENOSYS, the probe's, if the call is allowed.
func answer(rules []specs.LinuxSyscall, call string, args [2]uint32) syscall.Errno {
	for _, rule := range rules {
		if !slices.Contains(rule.Names, call) || !holds(rule.Args, args) {
			continue
		}
		if rule.Action == specs.ActAllow {
			return syscall.ENOSYS
		}
		return syscall.Errno(*rule.ErrnoRet)
	}
	return syscall.EPERM
}

func holds(conditions []specs.LinuxSeccompArg, args [2]uint32) bool {
	for _, c := range conditions {
		arg := uint64(args[c.Index/2])
		if c.Op == specs.OpMaskedEqual && arg&c.Value != c.ValueTwo || c.Op == specs.OpEqualTo && arg != c.Value {
			return false
		}
	}
	return true
}

// probe loads a filter that refuses calls with the marker.
func probe() error {
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 16 + 4*8, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: marker, SkipTrue: 1},
		// ENOSYS, since nobody traces; weaker than an error of another filter
		bpf.RetConstant{Val: unix.SECCOMP_RET_TRACE},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
	})
	if err != nil {
		return err
	}
	filter, err := seccomp.Unmarshal(seccomp.Marshal(raw))
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0,
		uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	return nil
}
