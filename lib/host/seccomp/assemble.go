package seccomp

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// AssembleProfile returns the filter that a profile of OCI describes, in the words that Profile
// uses. Calls of x32, which no distribution's kernel has by default, are answered as such a kernel
// does, with ENOSYS, and where the profile refuses what it does not name by an error, so are calls
// that are newer than the tables: programs try such and fall back. It is an error on a machine that
// files does not have.
func AssembleProfile(p *specs.LinuxSeccomp) ([]bpf.RawInstruction, error) {
	abis, ok := files[runtime.GOARCH]
	if !ok {
		return nil, fmt.Errorf("seccomp filter: none is written for %s", runtime.GOARCH)
	}
	otherwise, err := result(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	var program []bpf.Instruction
	for _, arch := range slices.Sorted(maps.Keys(abis)) {
		numbers, err := readNumbers(abis[arch])
		if err != nil {
			return nil, err
		}
		block, err := profileBlock(p, numbers, otherwise)
		if err != nil {
			return nil, err
		}
		program = append(program,
			bpf.LoadAbsolute{Off: offArch, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: arch, SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(block))})
		program = append(program, block...)
	}
	foreign := otherwise // a call of an unknown ABI
	if foreign == bpf.Instruction(allow) {
		foreign = deny(unix.EPERM)
	}
	raw, err := bpf.Assemble(append(program, foreign))
	if err != nil {
		return nil, fmt.Errorf("seccomp filter: %w", err)
	}
	return raw, nil
}

// rule is one for a single call.
type rule struct {
	when []specs.LinuxSeccompArg
	then bpf.Instruction
}

// profileBlock decides on a call of the ABI that has these numbers: calls with conditions one by
// one, then ranges of numbers with the same result.
func profileBlock(p *specs.LinuxSeccomp, numbers map[string]uint32, otherwise bpf.Instruction) ([]bpf.Instruction,
	error) {
	byName := map[string][]rule{}
	for _, s := range p.Syscalls {
		then, err := result(s.Action, s.ErrnoRet)
		if err != nil {
			return nil, err
		}
		for _, name := range s.Names {
			byName[name] = append(byName[name], rule{s.Args, then})
		}
	}
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: x32Bit, SkipTrue: 1}, deny(unix.ENOSYS),
	}
	var plain []numbered
	highest := uint32(0)
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		highest = max(highest, numbers[name])
		rules := byName[name]
		var body []bpf.Instruction
		var err error
		switch {
		case multiplexed[name] != nil:
			body = multiplexer(name, byName, otherwise)
		case len(rules) > 0 && rules[0].when == nil:
			plain = append(plain, numbered{numbers[name], rules[0].then})
			continue
		default:
			body, err = conditions(rules, otherwise)
		}
		if err != nil {
			return nil, fmt.Errorf("seccomp filter: %s: %w", name, err)
		}
		if len(body) > 255 { // the longest jump
			return nil, fmt.Errorf("seccomp filter: %s: too many conditions", name)
		}
		if len(rules) > 0 || multiplexed[name] != nil {
			program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: numbers[name],
				SkipTrue: uint8(len(body))})
			program = append(program, body...)
		}
	}
	program = append(program, ranges(plain)...)
	if e, ok := otherwise.(bpf.RetConstant); ok && e.Val&unix.SECCOMP_RET_ACTION_FULL == unix.SECCOMP_RET_ERRNO {
		program = append(program, bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: highest, SkipTrue: 1}, deny(unix.ENOSYS))
	}
	return append(program, otherwise), nil
}

// conditions are the rules of a call, in their order.
func conditions(rules []rule, otherwise bpf.Instruction) (program []bpf.Instruction, err error) {
	for _, r := range rules {
		var tests []bpf.Instruction
		for i, arg := range r.when {
			if arg.Value > 0xffffffff || arg.ValueTwo > 0xffffffff { // arguments of these calls are int, or flags
				return nil, errors.New("a condition with more than 32 bits")
			}
			tests = append(tests, bpf.LoadAbsolute{Off: offArg0 + 8*uint32(arg.Index), Size: 4})
			value := uint32(arg.Value)
			if arg.Op == specs.OpMaskedEqual {
				tests = append(tests, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: value})
				value = uint32(arg.ValueTwo)
			} else if arg.Op != specs.OpEqualTo {
				return nil, fmt.Errorf("an unknown operator %q", arg.Op)
			}
			left := 0 // of this rule, with its result
			for _, a := range r.when[i+1:] {
				left += 2
				if a.Op == specs.OpMaskedEqual {
					left++
				}
			}
			tests = append(tests, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: value, SkipTrue: uint8(left + 1)})
		}
		program = append(append(program, tests...), r.then)
		if r.when == nil {
			return program, nil
		}
	}
	return append(program, otherwise), nil
}

// multiplexer decides on a call that makes others: if a rule refuses it, it is refused, else the
// rules of the others decide, whose arguments can't be seen.
func multiplexer(name string, byName map[string][]rule, otherwise bpf.Instruction) []bpf.Instruction {
	last := otherwise
	if rules := byName[name]; len(rules) > 0 {
		if last = rules[0].then; last != allow {
			return []bpf.Instruction{last}
		}
	}
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: offArg0, Size: 4}}
	if name == "ipc" { // the upper half is a version
		program = append(program, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xffff})
	}
	for _, call := range slices.Sorted(maps.Keys(multiplexed[name])) {
		then := last
		for _, r := range byName[call] {
			then = r.then
			if r.when == nil || then == allow {
				break
			}
		}
		if then != last {
			program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: multiplexed[name][call], SkipTrue: 1},
				then)
		}
	}
	return append(program, last)
}

// numbered is a call whose arguments make no difference.
type numbered struct {
	number uint32
	then   bpf.Instruction
}

// ranges are neighbours with the same result, in one comparison.
func ranges(calls []numbered) (program []bpf.Instruction) {
	slices.SortFunc(calls, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	for len(calls) > 0 {
		n := 1
		for n < len(calls) && calls[n].number == calls[0].number+uint32(n) && calls[n].then == calls[0].then {
			n++
		}
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: calls[0].number, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: calls[n-1].number, SkipTrue: 1}, calls[0].then)
		calls = calls[n:]
	}
	return program
}

// result is what a rule's action is to the kernel.
func result(action specs.LinuxSeccompAction, errno *uint) (bpf.Instruction, error) {
	switch {
	case action == specs.ActAllow:
		return allow, nil
	case action == specs.ActKillProcess:
		return bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS}, nil
	case action == specs.ActErrno && errno != nil:
		return deny(unix.Errno(*errno)), nil
	}
	return nil, fmt.Errorf("seccomp filter: an unknown action %q", action)
}
