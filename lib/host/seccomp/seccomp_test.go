package seccomp

import (
	"encoding/binary"
	"runtime"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const eperm = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)

func TestAssemble(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skipf("the numbers are those of amd64, and this is %s", runtime.GOARCH)
	}
	const x64, i386, x32 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, 0x40000000
	for _, test := range []struct {
		name               string
		policy             Policy
		arch, number, arg0 uint32
		want               uint32
	}{
		{"read", Policy{}, x64, unix.SYS_READ, 0, unix.SECCOMP_RET_ALLOW},
		{"fork", Policy{}, x64, unix.SYS_CLONE, uint32(unix.SIGCHLD), unix.SECCOMP_RET_ALLOW},
		{"unshare", Policy{}, x64, unix.SYS_UNSHARE, unix.CLONE_NEWUSER | unix.CLONE_NEWNS, eperm},
		{"unshare of mounts", Policy{}, x64, unix.SYS_UNSHARE, unix.CLONE_NEWNS, unix.SECCOMP_RET_ALLOW},
		{"clone", Policy{}, x64, unix.SYS_CLONE, unix.CLONE_NEWUSER, eperm},
		{"clone3", Policy{}, x64, unix.SYS_CLONE3, 0, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{"x32 unshare", Policy{}, x64, unix.SYS_UNSHARE | x32, unix.CLONE_NEWUSER, eperm},
		{"i386 unshare", Policy{}, i386, 310, unix.CLONE_NEWUSER, eperm},
		{"i386 clone", Policy{}, i386, 120, unix.CLONE_NEWUSER, eperm},
		{"io_uring", Policy{}, x64, unix.SYS_IO_URING_SETUP, 0, eperm},
		{"userfaultfd", Policy{}, x64, unix.SYS_USERFAULTFD, 0, eperm},
		{"i386 userfaultfd", Policy{}, i386, 374, 0, eperm},
		{"vsock", Policy{}, x64, unix.SYS_SOCKET, unix.AF_VSOCK, unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		{"i386 vsock", Policy{}, i386, 359, unix.AF_VSOCK, unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		{"crypto", Policy{}, x64, unix.SYS_SOCKET, unix.AF_ALG, unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		{"i386 crypto", Policy{}, i386, 359, unix.AF_ALG, unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		{"between", Policy{}, x64, unix.SYS_SOCKET, unix.AF_ALG + 1, unix.SECCOMP_RET_ALLOW},
		{"i386 socketcall", Policy{}, i386, 102, 1, unix.SECCOMP_RET_ALLOW},
		{"unix", Policy{}, x64, unix.SYS_SOCKET, unix.AF_UNIX, unix.SECCOMP_RET_ALLOW},
		{"granted", Policy{UserNamespaces: true}, x64, unix.SYS_UNSHARE, unix.CLONE_NEWUSER, unix.SECCOMP_RET_ALLOW},
		{"granted clone3", Policy{UserNamespaces: true}, x64, unix.SYS_CLONE3, 0, unix.SECCOMP_RET_ALLOW},
		{"granted call", Policy{Calls: []string{"io_uring_setup"}}, x64, unix.SYS_IO_URING_SETUP, 0,
			unix.SECCOMP_RET_ALLOW},
		{"another call", Policy{Calls: []string{"io_uring_setup"}}, x64, unix.SYS_IO_URING_ENTER, 0, eperm},
		{"all", Policy{All: true}, i386, 310, unix.CLONE_NEWUSER, unix.SECCOMP_RET_ALLOW},
	} {
		t.Run(test.name, func(t *testing.T) {
			filter, err := Assemble(test.policy)
			if err != nil {
				t.Fatal(err)
			}
			program, ok := bpf.Disassemble(filter)
			vm, err := bpf.NewVM(program)
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			data := make([]byte, 64) // struct seccomp_data; this virtual machine reads what the network sends
			binary.BigEndian.PutUint32(data[offNumber:], test.number)
			binary.BigEndian.PutUint32(data[offArch:], test.arch)
			binary.BigEndian.PutUint32(data[offArg0:], test.arg0)
			if got, err := vm.Run(data); err != nil || uint32(got) != test.want {
				t.Errorf("%#x, %v; want %#x", got, err, test.want)
			}
		})
	}
}

// Every machine's filter is a program that the kernel's rules allow.
func TestEveryMachine(t *testing.T) {
	denied := []string{"clone", "clone3", "unshare", "io_uring_setup", "io_uring_enter", "io_uring_register",
		"userfaultfd", "socket"}
	for machine, abis := range files {
		for arch, file := range abis {
			numbers, err := readNumbers(file)
			if err != nil {
				t.Fatal(err)
			}
			if n := len((Policy{}).block(arch, numbers)); n > 255 {
				t.Errorf("%s: %d instructions can't be jumped over", machine, n)
			}
			for _, call := range denied {
				if _, ok := numbers[call]; !ok {
					t.Errorf("%s: no number of %s", file, call)
				}
			}
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	filter, err := Assemble(Policy{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(Marshal(filter))
	f.Add([]byte{})
	f.Add(make([]byte, 8*unix.BPF_MAXINSNS+8))
	f.Fuzz(func(t *testing.T, text []byte) {
		filter, err := Unmarshal(text)
		if (err != nil) != (len(text) == 0 || len(text)%8 != 0 || len(text) > 8*unix.BPF_MAXINSNS) {
			t.Fatal(err)
		}
		var raw []bpf.RawInstruction
		for _, i := range filter {
			raw = append(raw, bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K})
		}
		if err == nil && string(Marshal(raw)) != string(text) {
			t.Fatal("not the same again")
		}
	})
}
