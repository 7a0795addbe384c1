// Package seccomp assembles the seccomp filters of a pod and of its apps.
//
// The filter of a pod is written into its directory by rkt-prepare, and rkt-run-prepared loads it
// before it becomes the pod, so every process of the pod has it. It denies what no app needs
// and what has given hosts away: user namespaces, io_uring, userfaultfd, and sockets to the
// hypervisor (AF_VSOCK) and the kernel's cryptography (AF_ALG, CVE-2026-31431); and what
// systemd-nspawn's own filters deny, in whose place it is: those cost 30 ms at each start, and deny
// mlock(2) and landlock(7) to apps. i386 makes sockets by socketcall(2) as well, whose arguments
// are in memory, where no filter sees them. That is not denied: the C library of Debian and others
// for i386 knows no other way, see docs/security.md.
//
// The filter of an app is the default profile, or what an isolator or a flag says, see Calls.
// rkt-stage2 loads it just before it executes the app.
//
// systemd's directives of that kind are not used: in systemd 252 they imply NoNewPrivileges= for an
// app with User=, so its set-user-ID programs would stop working, and RestrictAddressFamilies= does
// not cover 32-bit calls.
package seccomp

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Policy is what a filter lets pass although it is denied by default.
type Policy struct {
	All            bool     // everything
	UserNamespaces bool     // creating user namespaces
	Calls          []string // names of system calls
	Capabilities   []string // what goes with a capability that an app has
}

// Offsets in struct seccomp_data (seccomp(2)); arguments are read on little-endian machines only,
// as those of files are.
const (
	offNumber = 0
	offArch   = 4
	offArg0   = 16
)

// denied has a line for each system call that systemd-nspawn denies its containers, in any of the
// releases 252, 257 and 262, with the capability that allows it, if one does. What both Docker and
// Podman allow every app is not among them.
//
//go:embed nspawn
var denied string

// Assemble returns the filter of a pod. It is an error on a machine that files does not have.
func Assemble(p Policy) ([]bpf.RawInstruction, error) {
	if p.All {
		return bpf.Assemble([]bpf.Instruction{allow})
	}
	abis, ok := files[runtime.GOARCH]
	if !ok {
		return nil, fmt.Errorf("seccomp filter: none is written for %s", runtime.GOARCH)
	}
	var program []bpf.Instruction
	for _, arch := range slices.Sorted(maps.Keys(abis)) {
		numbers, err := readNumbers(abis[arch])
		if err != nil {
			return nil, err
		}
		block := p.block(arch, numbers)
		program = append(program,
			bpf.LoadAbsolute{Off: offArch, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: arch, SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(block))})
		program = append(program, block...)
	}
	return bpf.Assemble(append(program, allow))
}

var allow = bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}

func deny(errno unix.Errno) bpf.Instruction {
	return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(errno)}
}

// block decides on a call of one ABI. x32 has the numbers of x86-64 with one bit set.
func (p Policy) block(arch uint32, numbers map[string]uint32) []bpf.Instruction {
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: offNumber, Size: 4}}
	if arch == unix.AUDIT_ARCH_X86_64 {
		program = append(program, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: ^uint32(x32Bit)})
	}
	on := func(call string, then ...bpf.Instruction) {
		program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: numbers[call], SkipTrue: uint8(len(then))})
		program = append(program, then...)
	}
	if !p.UserNamespaces {
		newUser := []bpf.Instruction{
			bpf.LoadAbsolute{Off: offArg0, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: unix.CLONE_NEWUSER, SkipTrue: 1},
			deny(unix.EPERM),
			allow,
		}
		on("clone", newUser...)
		on("unshare", newUser...)
		on("clone3", deny(unix.ENOSYS)) // has its flags in memory; the C library falls back to clone
	}
	for _, call := range []string{"io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd"} {
		if !slices.Contains(p.Calls, call) {
			on(call, deny(unix.EPERM))
		}
	}
	var others []numbered
	for line := range strings.Lines(denied) {
		call, capability, _ := strings.Cut(strings.TrimSpace(line), " ")
		number, ok := numbers[call]
		if ok && !slices.Contains(p.Calls, call) && !slices.Contains(p.Capabilities, capability) {
			others = append(others, numbered{number, deny(unix.EPERM)})
		}
	}
	program = append(program, ranges(others)...)
	on("socket",
		bpf.LoadAbsolute{Off: offArg0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_VSOCK, SkipTrue: 5},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_ALG, SkipTrue: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.AF_NETLINK, SkipTrue: 2},
		bpf.LoadAbsolute{Off: offArg0 + 2*8, Size: 4}, // audit is the host's, as systemd-nspawn has it
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.NETLINK_AUDIT, SkipTrue: 1},
		allow,
		deny(unix.EAFNOSUPPORT))
	return append(program, allow)
}

// Marshal returns a filter as a file has it: struct sock_filter (linux/filter.h), little-endian.
func Marshal(filter []bpf.RawInstruction) []byte {
	var b []byte
	for _, i := range filter {
		b = binary.LittleEndian.AppendUint16(b, i.Op)
		b = append(b, i.Jt, i.Jf)
		b = binary.LittleEndian.AppendUint32(b, i.K)
	}
	return b
}

// Unmarshal is the reverse of Marshal. It returns an error if b is empty, too long for the kernel,
// or not whole instructions.
func Unmarshal(b []byte) ([]unix.SockFilter, error) {
	const size = 8
	if len(b) == 0 || len(b)%size != 0 || len(b)/size > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("seccomp filter: %d bytes are not a program", len(b))
	}
	var filter []unix.SockFilter
	for ; len(b) > 0; b = b[size:] {
		filter = append(filter, unix.SockFilter{
			Code: binary.LittleEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.LittleEndian.Uint32(b[4:])})
	}
	return filter, nil
}

// Load puts the filter on the calling thread, which the caller has locked, and on all that it
// executes. It needs CAP_SYS_ADMIN, or no_new_privs.
func Load(filter []unix.SockFilter) error {
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("seccomp filter: %w", errno)
	}
	return nil
}
