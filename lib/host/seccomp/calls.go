package seccomp

import (
	"embed"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/program"
	"golang.org/x/sys/unix"
)

// Calls is a filter by names of system calls and of systemd's groups of them, as SystemCallFilter=
// of systemd.exec(5) takes them, and by the default profile.
type Calls struct {
	Retain  bool // only these may be called, else all but these
	Names   []string
	Errno   string // what another call ends with; "" kills the process, but is EPERM with Default
	Reduce  bool   // and of them only what the default profile allows
	Default bool   // with Retain: and what the default profile allows
	Nested  bool   // with Retain: and what makes namespaces and mounts
	All     bool   // no filter at all
}

func (c Calls) isEmpty() bool { return len(c.Names) == 0 && !c.Reduce && !c.Default && !c.Nested }

// calls has a file for each ABI with lines NAME NUMBER, made of golang.org/x/sys/unix
// (zsysnum_linux_*.go).
//
//go:embed calls
var calls embed.FS

// files are the files of each GOARCH by the kernel's name of the ABI.
var files = map[string]map[uint32]string{
	"amd64":   {unix.AUDIT_ARCH_X86_64: "x86_64", unix.AUDIT_ARCH_I386: "i386"},
	"386":     {unix.AUDIT_ARCH_I386: "i386"},
	"arm64":   {unix.AUDIT_ARCH_AARCH64: "aarch64", unix.AUDIT_ARCH_ARM: "arm"},
	"arm":     {unix.AUDIT_ARCH_ARM: "arm"},
	"riscv64": {unix.AUDIT_ARCH_RISCV64: "riscv64"},
}

// x32Bit is set in the number of a call by x32, an ABI of x86-64.
const x32Bit = 0x40000000

// multiplexed are the calls that i386 makes by another one too, and how that numbers them in its
// first argument (linux/net.h, linux/ipc.h).
var multiplexed = map[string]map[string]uint32{
	"socketcall": {"socket": 1, "bind": 2, "connect": 3, "listen": 4, "accept": 5, "getsockname": 6, "getpeername": 7,
		"socketpair": 8, "send": 9, "recv": 10, "sendto": 11, "recvfrom": 12, "shutdown": 13, "setsockopt": 14,
		"getsockopt": 15, "sendmsg": 16, "recvmsg": 17, "accept4": 18, "recvmmsg": 19, "sendmmsg": 20},
	"ipc": {"semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13,
		"msgctl": 14, "shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24},
}

// Expand returns the names of the system calls, with those of groups in their place, sorted. What
// every program needs is among them where only what is named may be called. It is an error if
// systemd, which is asked, does not know a group.
func (c Calls) Expand() ([]string, error) { return c.expand(systemdGroups) }

// Errno returns the error of a name in errno(3), and whether there is one.
func Errno(name string) (unix.Errno, bool) {
	aliases := map[string]unix.Errno{"EWOULDBLOCK": unix.EWOULDBLOCK, "EDEADLOCK": unix.EDEADLOCK,
		"ENOTSUP": unix.ENOTSUP}
	if errno, ok := aliases[name]; ok {
		return errno, true
	}
	for e := range unix.Errno(4096) {
		if e != 0 && unix.ErrnoName(e) == name {
			return e, true
		}
	}
	return 0, false
}

// expand returns the names with those of groups in their place. Like systemd it lets pass what
// every program needs, where only what is named may be called.
func (c Calls) expand(groups func() (map[string][]string, error)) ([]string, error) {
	names := c.Names
	if c.Retain && len(names) > 0 && !c.Default {
		names = append([]string{"@default"}, names...)
	}
	var all map[string][]string
	if slices.ContainsFunc(names, isGroup) {
		var err error
		if all, err = groups(); err != nil {
			return nil, err
		}
	}
	set := map[string]bool{}
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		if set[name] {
			continue
		}
		set[name] = true
		if !isGroup(name) {
			continue
		}
		members, ok := all[name]
		if !ok {
			return nil, fmt.Errorf("seccomp filter: systemd knows no group %s", name)
		}
		names = append(slices.Clone(names), members...)
	}
	var list []string
	for name := range set {
		if !isGroup(name) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list, nil
}

func isGroup(name string) bool { return strings.HasPrefix(name, "@") }

// systemdGroups asks the host's systemd, which is the pod's too, for its groups.
func systemdGroups() (map[string][]string, error) {
	path, err := program.Look("systemd-analyze")
	if err != nil {
		return nil, fmt.Errorf("seccomp filter: %w", err)
	}
	out, err := exec.Command(path, "--no-pager", "syscall-filter").Output()
	if err != nil {
		return nil, fmt.Errorf("seccomp filter: systemd-analyze syscall-filter: %w", err)
	}
	groups := parseGroups(string(out))
	if len(groups["@default"]) == 0 {
		return nil, errors.New("seccomp filter: systemd-analyze syscall-filter: has no group @default")
	}
	return groups, nil
}

// parseGroups reads a heading for each group, and below it indented the description, and the
// members.
func parseGroups(text string) map[string][]string {
	groups := map[string][]string{}
	current := ""
	for line := range strings.Lines(text) {
		name := strings.TrimSpace(line)
		switch {
		case name == "" || strings.HasPrefix(name, "#"):
		case line[0] != ' ':
			current = name
		case isGroup(current):
			groups[current] = append(groups[current], name)
		}
	}
	return groups
}

// Numbers returns the numbers of the system calls of an ABI by their names. The ABI is one of
// AUDIT_ARCH_… (linux/audit.h); an unknown one is an error.
func Numbers(abi uint32) (map[string]uint32, error) {
	for _, abis := range files {
		if file, ok := abis[abi]; ok {
			return readNumbers(file)
		}
	}
	return nil, fmt.Errorf("seccomp filter: no system calls of ABI %#x are known", abi)
}

func readNumbers(abi string) (map[string]uint32, error) {
	text, err := calls.ReadFile("calls/" + abi)
	if err != nil {
		return nil, err
	}
	numbers := map[string]uint32{}
	for line := range strings.Lines(string(text)) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("calls/%s: %q: %w", abi, line, err)
		}
		numbers[name] = uint32(n)
	}
	return numbers, nil
}
