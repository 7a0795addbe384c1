package seccomp

import (
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// run is what the kernel would do with a call.
func run(t *testing.T, filter []unix.SockFilter, arch, number, arg0 uint32) uint32 {
	t.Helper()
	var raw []bpf.RawInstruction
	for _, i := range filter {
		raw = append(raw, bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	program, ok := bpf.Disassemble(raw)
	vm, err := bpf.NewVM(program)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	data := make([]byte, 64) // struct seccomp_data; this virtual machine reads what the network sends
	binary.BigEndian.PutUint32(data[offNumber:], number)
	binary.BigEndian.PutUint32(data[offArch:], arch)
	binary.BigEndian.PutUint32(data[offArg0:], arg0)
	got, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(got)
}

func TestAssembleCalls(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skipf("the numbers are those of amd64, and this is %s", runtime.GOARCH)
	}
	testkit.Require(t, "systemd-analyze")
	const x64, i386, x32 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, x32Bit
	const pass, kill = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_KILL_PROCESS
	remove := Calls{Names: []string{"mkdir", "mkdirat", "socket", "nosuchcall"}, Errno: "EPERM"}
	retain := Calls{Retain: true, Names: []string{"@basic-io", "mkdir", "connect"}}
	wait := Calls{Names: []string{"shmget"}, Errno: "EWOULDBLOCK"}
	for _, test := range []struct {
		calls              Calls
		arch, number, arg0 uint32
		want               uint32
	}{
		{remove, x64, 83, 0, eperm},
		{remove, x64, unix.SYS_MKDIRAT, 0, eperm},
		{remove, x64, 84, 0, pass},
		{remove, x64, 83 | x32, 0, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{remove, i386, 39, 0, eperm},
		{remove, i386, 83, 0, pass}, // symlink, and mkdir of x86-64
		{remove, i386, 102, 1, eperm},
		{remove, i386, 102, 2, pass},
		{remove, unix.AUDIT_ARCH_AARCH64, 1, 0, eperm},
		{retain, x64, 83, 0, pass},
		{retain, x64, unix.SYS_READ, 0, pass},
		{retain, x64, unix.SYS_EXECVE, 0, pass},
		{retain, x64, unix.SYS_MKDIRAT, 0, kill},
		{retain, x64, unix.SYS_CONNECT, 0, pass},
		{retain, i386, 362, 0, pass},
		{retain, i386, 102, 3, pass},
		{retain, i386, 102, 1, kill},
		{retain, i386, 11, 0, pass},
		{wait, i386, 117, 23, unix.SECCOMP_RET_ERRNO | uint32(unix.EAGAIN)},
		{wait, i386, 117, 1<<16 | 23, unix.SECCOMP_RET_ERRNO | uint32(unix.EAGAIN)},
		{wait, i386, 117, 24, pass},
	} {
		calls, err := test.calls, error(nil)
		if calls.Names, err = calls.Expand(); err != nil {
			t.Fatal(err)
		}
		profile, err := calls.Profile(nil)
		if err != nil {
			t.Fatal(err)
		}
		filter := assembled(t, profile)
		if got := run(t, filter, test.arch, test.number, test.arg0); got != test.want {
			t.Errorf("%v: call %d of %#x with %d: %#x, want %#x", test.calls, test.number, test.arch, test.arg0,
				got, test.want)
		}
	}
	for _, wrong := range []Calls{{Names: []string{"@nosuch"}, Errno: "EPERM"},
		{Names: []string{"mkdir"}, Errno: "ENOSUCH"}} {
		names, err := wrong.Expand()
		if err == nil {
			wrong.Names = names
			_, err = wrong.Profile(nil)
		}
		if err == nil {
			t.Errorf("%v is taken", wrong)
		}
	}
}

// A group has the members of those that it names.
func TestExpand(t *testing.T) {
	text := "@default\n    # Always permitted\n    execve\n    exit\n\n@a\n    # Some\n    @b\n    one\n\n@b\n    # " +
		"More\n    @a\n    two\n\n# Ungrouped System Calls (known but not included in any of the groups except " +
		"@known):\n#   three\n"
	groups := func() (map[string][]string, error) { return parseGroups(text), nil }
	for _, test := range []struct {
		calls Calls
		want  string
	}{
		{Calls{Names: []string{"@a", "one"}}, "one two"},
		{Calls{Retain: true, Names: []string{"@b"}}, "execve exit one two"},
	} {
		got, err := test.calls.expand(groups)
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%v: %v, %v", test.calls, got, err)
		}
	}
	missing := errors.New("not installed")
	none := func() (map[string][]string, error) { return nil, missing }
	if _, err := (Calls{Names: []string{"@a"}}).expand(none); !errors.Is(err, missing) {
		t.Error(err)
	}
	if names, err := (Calls{Names: []string{"b", "a"}}).expand(none); err != nil ||
		!slices.Equal(names, []string{"a", "b"}) {
		t.Error(names, err)
	}
}

// Every table is read, and its filter is a program that the kernel takes.
func TestTables(t *testing.T) {
	for machine, abis := range files {
		for arch, file := range abis {
			numbers, err := readNumbers(file)
			if err != nil || len(numbers) < 300 {
				t.Errorf("%s: %s: %d calls, %v", machine, file, len(numbers), err)
			}
			var all []string
			for name := range numbers {
				all = append(all, name)
			}
			for _, calls := range []Calls{{Retain: true, Names: all}, {Reduce: true, Names: all[:50], Errno: "EPERM"}} {
				profile, err := calls.Profile(nil)
				if err != nil {
					t.Fatal(err)
				}
				block, err := profileBlock(profile, numbers, allow)
				if err != nil || len(block) > unix.BPF_MAXINSNS/2 {
					t.Errorf("%s: %#x: %d instructions, %v", machine, arch, len(block), err)
				}
			}
		}
	}
}

// The other names of an error are its number, too, in the filter and in an app's configuration.
func TestErrno(t *testing.T) {
	for name, want := range map[string]unix.Errno{"EPERM": unix.EPERM, "ENOTSUP": unix.EOPNOTSUPP,
		"EWOULDBLOCK": unix.EAGAIN, "EDEADLOCK": unix.EDEADLK} {
		if got, ok := Errno(name); !ok || got != want {
			t.Errorf("%s: %d, %v", name, got, ok)
		}
	}
	if got, ok := Errno("ENOPE"); ok {
		t.Errorf("ENOPE is %d", got)
	}
}
