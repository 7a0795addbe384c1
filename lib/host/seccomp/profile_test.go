package seccomp

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	docker "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/testkit"
	"golang.org/x/sys/unix"
)

// conditions of a profile in the form of Docker's and Podman's, by call, as in peers.
func profileConditions(t *testing.T, text []byte) map[string]string {
	t.Helper()
	var profile struct {
		Syscalls []struct {
			Names    []string
			Action   specs.LinuxSeccompAction
			Args     []specs.LinuxSeccompArg
			Includes struct{ Caps []string }
		}
	}
	if err := json.Unmarshal(text, &profile); err != nil {
		t.Fatal(err)
	}
	sets := map[string][]string{}
	for _, s := range profile.Syscalls {
		if s.Action != specs.ActAllow {
			continue
		}
		when := s.Includes.Caps
		switch {
		case len(s.Args) > 0:
			when = []string{"args"}
		case len(when) == 0:
			when = []string{"yes"}
		}
		for _, name := range s.Names {
			sets[name] = append(sets[name], when...)
		}
	}
	conditions := map[string]string{}
	for name, set := range sets {
		slices.Sort(set)
		switch {
		case name == "socket": // some families, or all but some
			set = []string{"args"}
		case slices.Contains(set, "yes"):
			set = []string{"yes"}
		}
		conditions[name] = strings.Join(slices.Compact(set), ",")
	}
	return conditions
}

// What we say of Docker's profile is true of the version in go.mod. The default profile allows
// nothing that Podman's does not of the release of this machine, as far as that knows the call.
func TestPeers(t *testing.T) {
	text, err := json.Marshal(docker.DefaultProfile())
	if err != nil {
		t.Fatal(err)
	}
	const podmans = "/usr/share/containers/seccomp.json"
	podmanText, err := os.ReadFile(podmans)
	if err != nil {
		t.Fatalf("%v: install Debian's package golang-github-containers-common", err)
	}
	theirs, podman := profileConditions(t, text), profileConditions(t, podmanText)
	for line := range strings.Lines(peers) {
		f := strings.Fields(line)
		if len(f) != 3 {
			t.Fatalf("%q", line)
		}
		want := theirs[f[0]]
		if want == "" {
			want = "no"
		}
		if f[1] != want {
			t.Errorf("%s: Docker: %s, not %s", f[0], want, f[1])
		}
		for _, capabilities := range [][]string{nil, {"CAP_SYS_ADMIN"}, {"CAP_SYS_PTRACE", "CAP_SYS_TIME"}} {
			ours := min(verdictOf(f[1], capabilities), verdictOf(f[2], capabilities))
			if known := podman[f[0]]; known != "" && ours > verdictOf(known, capabilities) {
				t.Errorf("%s with %v: ours is %v, Podman's %s", f[0], capabilities, ours, known)
			}
		}
	}
	for _, abi := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386} {
		numbers, err := Numbers(abi)
		if err != nil {
			t.Fatal(err)
		}
		for name := range numbers {
			if !strings.Contains("\n"+peers, "\n"+name+" ") {
				t.Errorf("%s: has no line", name)
			}
		}
	}
	var sockets []uint64
	for _, s := range docker.DefaultProfile().Syscalls {
		if slices.Contains(s.Names, "socket") {
			if s.Args[0].Op == specs.OpLessThan {
				for family := range s.Args[0].Value {
					sockets = append(sockets, family)
				}
			} else {
				sockets = append(sockets, s.Args[0].Value)
			}
		}
	}
	if slices.Sort(sockets); !slices.Equal(sockets, families) {
		t.Errorf("Docker's families are %v, and ours %v", sockets, families)
	}
}

func TestProfile(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skipf("the numbers are those of amd64, and this is %s", runtime.GOARCH)
	}
	const x64, i386, x32 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, x32Bit
	const pass, kill = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_KILL_PROCESS
	says := func(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }
	admin := []string{"CAP_SYS_ADMIN"}
	plain := Calls{Reduce: true}
	for _, test := range []struct {
		name               string
		calls              Calls
		capabilities       []string
		arch, number, arg0 uint32
		want               uint32
	}{
		{"read", plain, nil, x64, unix.SYS_READ, 0, pass},
		{"i386 read", plain, nil, i386, 3, 0, pass},
		{"x32 read", plain, nil, x64, unix.SYS_READ | x32, 0, says(unix.ENOSYS)},
		{"landlock", plain, nil, x64, unix.SYS_LANDLOCK_CREATE_RULESET, 0, pass},
		{"mount", plain, nil, x64, unix.SYS_MOUNT, 0, eperm},
		{"mount with CAP_SYS_ADMIN", plain, admin, x64, unix.SYS_MOUNT, 0, pass},
		{"fork", plain, nil, x64, unix.SYS_CLONE, uint32(unix.SIGCHLD), pass},
		{"namespace", plain, nil, x64, unix.SYS_CLONE, unix.CLONE_NEWNS, eperm},
		{"namespace with CAP_SYS_ADMIN", plain, admin, x64, unix.SYS_CLONE, unix.CLONE_NEWNS, pass},
		{"clone3", plain, nil, x64, unix.SYS_CLONE3, 0, says(unix.ENOSYS)},
		{"a call of the future", plain, nil, x64, 1000, 0, says(unix.ENOSYS)},
		{"AF_INET", plain, nil, x64, unix.SYS_SOCKET, unix.AF_INET, pass},
		{"AF_ALG", plain, nil, x64, unix.SYS_SOCKET, unix.AF_ALG, says(unix.EAFNOSUPPORT)},
		{"ADDR_NO_RANDOMIZE", plain, nil, x64, unix.SYS_PERSONALITY, 0x40000, eperm},
		{"keyctl, which only Podman allows", plain, admin, x64, unix.SYS_KEYCTL, 0, eperm},
		{"foreign", plain, nil, unix.AUDIT_ARCH_AARCH64, 1, 0, eperm},
		{"removed", Calls{Reduce: true, Names: []string{"mkdir"}, Errno: "ENOSYS"}, nil, x64, 83, 0,
			says(unix.ENOSYS)},
		{"not removed", Calls{Reduce: true, Names: []string{"mkdir"}, Errno: "ENOSYS"}, nil, x64, unix.SYS_MOUNT,
			0, eperm},
		{"removed socketcall", Calls{Reduce: true, Names: []string{"socketcall"}, Errno: "ENOSYS"}, nil, i386, 102, 2,
			says(unix.ENOSYS)},
		{"removed socket", Calls{Reduce: true, Names: []string{"socket"}, Errno: "ENOSYS"}, nil, i386, 102, 1,
			says(unix.ENOSYS)},
		{"removed connect", Calls{Reduce: true, Names: []string{"connect"}, Errno: "ENOSYS"}, nil, i386, 102, 1, pass},
		{"an image's", Calls{Retain: true, Reduce: true, Names: []string{"mount", "read"}}, nil, x64,
			unix.SYS_MOUNT, 0, kill},
		{"an image's read", Calls{Retain: true, Reduce: true, Names: []string{"mount", "read"}}, nil, x64,
			unix.SYS_READ, 0, pass},
		{"an image's write", Calls{Retain: true, Reduce: true, Names: []string{"mount", "read"}}, nil, x64,
			unix.SYS_WRITE, 0, kill},
		{"root's", Calls{Retain: true, Names: []string{"mount", "read"}}, nil, x64, unix.SYS_MOUNT, 0, pass},
		{"root's namespace", Calls{Retain: true, Names: []string{"clone", "unshare"}}, nil, x64, unix.SYS_UNSHARE,
			unix.CLONE_NEWUSER, eperm},
		{"root's clone", Calls{Retain: true, Names: []string{"clone", "unshare"}}, nil, x64, unix.SYS_CLONE,
			unix.CLONE_NEWUSER | uint32(unix.SIGCHLD), eperm},
		{"root's clone of i386", Calls{Retain: true, Names: []string{"clone", "unshare"}}, nil, i386, 120,
			unix.CLONE_NEWUSER, eperm},
		{"root's clone3", Calls{Retain: true, Names: []string{"clone3"}}, nil, x64, unix.SYS_CLONE3, 0,
			says(unix.ENOSYS)},
		{"root's other namespace", Calls{Retain: true, Names: []string{"clone", "unshare"}}, nil, x64, unix.SYS_UNSHARE,
			unix.CLONE_NEWNS, pass},
		{"root's namespace with CAP_SYS_ADMIN", Calls{Retain: true, Names: []string{"unshare"}}, admin, x64,
			unix.SYS_UNSHARE, unix.CLONE_NEWUSER, pass},
		{"every call", Calls{}, nil, x64, unix.SYS_MOUNT, 0, pass},
		{"every call but one", Calls{}, nil, x64, unix.SYS_UNSHARE, unix.CLONE_NEWUSER, eperm},
		{"a fork", Calls{}, nil, x64, unix.SYS_CLONE, uint32(unix.SIGCHLD), pass},
		{"more", Calls{Retain: true, Default: true, Names: []string{"keyctl"}}, nil, x64, unix.SYS_KEYCTL, 0, pass},
		{"not more", Calls{Retain: true, Default: true, Names: []string{"keyctl"}}, nil, x64, unix.SYS_MOUNT, 0, eperm},
		{"nested", Calls{Retain: true, Default: true, Nested: true}, nil, x64, unix.SYS_CLONE3, 0, pass},
		{"nested clone", Calls{Retain: true, Default: true, Nested: true}, nil, x64, unix.SYS_CLONE,
			unix.CLONE_NEWUSER, pass},
	} {
		profile, err := test.calls.Profile(test.capabilities)
		if err != nil {
			t.Fatal(err)
		}
		filter := assembled(t, profile)
		if got := run(t, filter, test.arch, test.number, test.arg0); got != test.want {
			t.Errorf("%s: %#x, want %#x", test.name, got, test.want)
		}
	}
	if profile, err := (Calls{All: true}).Profile(nil); profile != nil || err != nil {
		t.Error(profile, err)
	}
}

// assembled is the filter of a profile, as it is read from a pod's directory.
func assembled(t *testing.T, profile *specs.LinuxSeccomp) []unix.SockFilter {
	t.Helper()
	raw, err := AssembleProfile(profile)
	if err != nil {
		t.Fatal(err)
	}
	filter, err := Unmarshal(Marshal(raw))
	if err != nil {
		t.Fatal(err)
	}
	return filter
}

// The table of the page is made of the lines that decide.
func TestPage(t *testing.T) {
	calls := map[string][]string{}
	var kinds []string
	for line := range strings.Lines(peers) {
		f := strings.Fields(line)
		kind := f[1] + " " + f[2]
		if calls[kind] == nil {
			kinds = append(kinds, kind)
		}
		calls[kind] = append(calls[kind], f[0])
	}
	slices.SortFunc(kinds, func(a, b string) int { return len(calls[b]) - len(calls[a]) })
	shown := strings.NewReplacer(",", ", ", "args", "some arguments").Replace
	var b strings.Builder
	b.WriteString("| Docker | Podman | rkt | system calls |\n|---|---|---|---|\n")
	for _, kind := range kinds {
		f := strings.Fields(kind)
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", shown(f[0]), shown(f[1]), shown(both(f[0], f[1])),
			strings.Join(calls[kind], " "))
	}
	testkit.Generated(t, "../../../docs/system-calls.md", "<!-- made of lib/host/seccomp/peers -->\n", "<!-- end -->\n",
		func(string) string { return b.String() })
}

// both is when two profiles allow a call.
func both(a, b string) string {
	switch {
	case a == "no" || b == "no":
		return "no"
	case a == b || b == "yes":
		return a
	case a == "yes":
		return b
	}
	var set []string
	for _, c := range strings.Split(a, ",") {
		if slices.Contains(strings.Split(b, ","), c) {
			set = append(set, c)
		}
	}
	return strings.Join(set, ",")
}
