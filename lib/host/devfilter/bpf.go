package devfilter

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// instruction is one of BPF (struct bpf_insn in linux/bpf.h; the opcodes are in RFC 9669).
type instruction struct {
	code      uint8
	registers uint8 // the destination in the lower half, the source in the upper one
	offset    int16
	immediate int32
}

// Opcodes.
const (
	loadHalf     = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_H
	loadWord     = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
	move32       = unix.BPF_ALU | unix.BPF_MOV | unix.BPF_K
	copy32       = unix.BPF_ALU | unix.BPF_MOV | unix.BPF_X
	and32        = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	shiftRight32 = unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K
	unlessEqual  = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K
	unlessSame   = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_X
	exit         = unix.BPF_JMP | unix.BPF_EXIT
)

// Registers. The kernel passes a struct bpf_cgroup_dev_ctx in the first one: the access that is
// wanted in the upper and the type in the lower 16 bits of a word, then the major and the minor
// number.
const (
	result = iota
	context
	kind
	access
	major
	minor
	spare
)

// assemble writes the program of some rules: it returns 1, which allows the access, if a rule
// allows all of it.
func assemble(rules []Rule) []instruction {
	program := []instruction{
		{code: loadHalf, registers: kind | context<<4, offset: 0},
		{code: loadWord, registers: access | context<<4, offset: 0},
		{code: shiftRight32, registers: access, immediate: 16},
		{code: loadWord, registers: major | context<<4, offset: 4},
		{code: loadWord, registers: minor | context<<4, offset: 8},
	}
	for _, r := range rules {
		tests := []instruction{
			{code: unlessEqual, registers: kind, immediate: r.kind()},
			{code: copy32, registers: spare | access<<4},
			{code: and32, registers: spare, immediate: r.access()},
			{code: unlessSame, registers: spare | access<<4},
			{code: unlessEqual, registers: major, immediate: int32(r.Major)},
		}
		if !r.AnyMinor {
			tests = append(tests, instruction{code: unlessEqual, registers: minor, immediate: int32(r.Minor)})
		}
		tests = append(tests, instruction{code: move32, registers: result, immediate: 1}, instruction{code: exit})
		for i := range tests { // to the next rule
			if tests[i].code == unlessEqual || tests[i].code == unlessSame {
				tests[i].offset = int16(len(tests) - i - 1)
			}
		}
		program = append(program, tests...)
	}
	return append(program, instruction{code: move32, registers: result}, instruction{code: exit})
}

// load has the kernel check a program, and returns its descriptor.
func load(program []instruction) (int, error) {
	license := []byte("Apache-2.0\x00")
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&program[0])
	pins.Pin(&license[0])
	attributes := struct { // union bpf_attr for BPF_PROG_LOAD, as far as it is used
		programType, length   uint32
		instructions, license uint64
		logLevel, logSize     uint32
		log                   uint64
		kernelVersion, flags  uint32
	}{
		programType: unix.BPF_PROG_TYPE_CGROUP_DEVICE, length: uint32(len(program)),
		instructions: uint64(uintptr(unsafe.Pointer(&program[0]))),
		license:      uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attributes), unsafe.Sizeof(attributes))
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		return -1, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if err != nil {
		return -1, fmt.Errorf("device filter: %w", err)
	}
	return fd, nil
}

// attach attaches a program to a cgroup, besides those that it has.
func attach(group, program int) error {
	attributes := struct{ target, program, kind, flags uint32 }{
		uint32(group), uint32(program), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI,
	}
	_, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attributes), unsafe.Sizeof(attributes))
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if err != nil {
		return fmt.Errorf("device filter: %w", err)
	}
	return nil
}

// bpf is bpf(2).
func bpf(command uintptr, attributes unsafe.Pointer, size uintptr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attributes), size)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
