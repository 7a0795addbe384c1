package confine

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// become has this test program become another one, as a child of the test: what it is told is JSON
// of a request.
const become = "RKT_TEST_BECOME"

type request struct {
	Process Process
	File    string
	Argv    []string
	Env     []string
}

func TestMain(m *testing.M) {
	text := os.Getenv(become)
	if text == "" {
		os.Exit(m.Run())
	}
	runtime.LockOSThread()
	var r request
	err := json.Unmarshal([]byte(text), &r)
	if err == nil {
		var program *Program
		say := func(step string) func(unix.Errno) string {
			return func(e unix.Errno) string { return step + ": " + e.Error() }
		}
		failure := Failure{Filter: say("filter"), FilterStatus: 228, Exec: say("exec"), ExecStatus: 203}
		if program, err = NewProgram(r.File, bytesOf(r.Argv), bytesOf(r.Env), r.Process.Filters, failure); err == nil {
			if err = r.Process.Apply(); err == nil {
				program.Become()
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(99)
}

func bytesOf(list []string) (b [][]byte) {
	for _, s := range list {
		b = append(b, []byte(s))
	}
	return b
}

// run runs a request in a child, and returns what its program prints and its exit status.
func run(t *testing.T, r request) (out string, status int) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{become + "=" + string(text)}
	both, _ := cmd.CombinedOutput()
	return string(both), cmd.ProcessState.ExitCode()
}

// statusOf returns the lines of /proc/self/status of a program that was executed so.
func statusOf(t *testing.T, p Process) map[string]string {
	t.Helper()
	out, status := run(t, request{Process: p, File: "/bin/cat", Argv: []string{"cat", "/proc/self/status"}})
	if status != 0 {
		t.Fatalf("%d: %s", status, out)
	}
	lines := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(line, ":")
		lines[name] = strings.Join(strings.Fields(value), " ")
	}
	return lines
}

// A user other than root has no capability, root has those of the bounding set, and neither can get
// more.
func TestApply(t *testing.T) {
	const chown, kill = 1 << unix.CAP_CHOWN, 1 << unix.CAP_KILL
	for _, c := range []struct {
		process Process
		want    map[string]string
	}{
		{Process{UID: 1000, GID: 1001, Groups: []uint32{7, 9}, Bounding: chown | kill}, map[string]string{
			"Uid": "1000 1000 1000 1000", "Gid": "1001 1001 1001 1001", "Groups": "7 9", "NoNewPrivs": "0",
			"Seccomp": "0", "CapBnd": "0000000000000021", "CapEff": "0000000000000000", "CapPrm": "0000000000000000",
			"CapInh": "0000000000000000", "CapAmb": "0000000000000000"}},
		{Process{Bounding: chown, NoNewPrivileges: true}, map[string]string{
			"Uid": "0 0 0 0", "Groups": "", "NoNewPrivs": "1",
			"CapBnd": "0000000000000001", "CapEff": "0000000000000001", "CapPrm": "0000000000000001",
			"CapInh": "0000000000000000"}},
		{Process{UID: 5, GID: 5, Filters: [][]unix.SockFilter{{{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW}}}},
			map[string]string{
				"Seccomp": "2", "CapEff": "0000000000000000", "CapBnd": "0000000000000000"}},
	} {
		got := statusOf(t, c.process)
		for name, want := range c.want {
			if got[name] != want {
				t.Errorf("%+v: %s is %q, want %q", c.process, name, got[name], want)
			}
		}
	}
}

// A limit is set, and one above the process's own is its own for who may not raise it.
func TestLimits(t *testing.T) {
	p := Process{Bounding: ^uint64(0), Limits: map[int]unix.Rlimit{unix.RLIMIT_NOFILE: {Cur: 100, Max: 200}}}
	out, _ := run(t, request{Process: p, File: "/bin/sh", Argv: []string{"sh", "-c", "ulimit -Sn; ulimit -Hn"}})
	if out != "100\n200\n" {
		t.Errorf("%q", out)
	}
}

// What fails says which step, by an exit status and a line; nothing else is executed.
func TestFailures(t *testing.T) {
	bad := Process{Bounding: ^uint64(0), Filters: [][]unix.SockFilter{{{Code: 0xffff}}}}
	for _, c := range []struct {
		request request
		status  int
		says    string
	}{
		{request{File: "/nosuch", Argv: []string{"x"}}, 203, "exec: no such file or directory\n"},
		{request{File: "/etc", Argv: []string{"x"}}, 203, "exec: permission denied\n"},
		{request{Process: bad, File: "/bin/true", Argv: []string{"true"}}, 228, "filter: invalid argument\n"},
		{request{File: "/bin/true"}, 99, "/bin/true: has no arguments, not even its name\n"},
		{request{File: "/bin/true", Argv: []string{"a\x00b"}}, 99, "\"a\\x00b\": has a NUL byte\n"},
		{request{File: "/bin/true", Argv: []string{"a"}, Env: []string{"a=\x00"}}, 99, "\"a=\\x00\": has a NUL byte\n"},
	} {
		if out, status := run(t, c.request); status != c.status || out != c.says {
			t.Errorf("%+v: %d %q, want %d %q", c.request, status, out, c.status, c.says)
		}
	}
}

// The program has the environment that it is given and no other, and signals as a new process has
// them.
func TestBecome(t *testing.T) {
	script := "echo $0 $1 $A; env | grep -c ^RKT; grep -E '^Sig(Ign|Blk)' /proc/self/status"
	out, status := run(t, request{File: "/bin/sh", Argv: []string{"name", "-c", script, "name", "one"},
		Env: []string{"A=b", "PATH=/usr/bin:/bin"}})
	want := "name one b\n0\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
	if status != 0 || out != want {
		t.Errorf("%d %q, want %q", status, out, want)
	}
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"program": 0o755, "text": 0o644} {
		if err := os.WriteFile(dir+"/"+name, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	env := [][]byte{[]byte("XPATH=/nosuch"), []byte("PATH=/nosuch:" + dir)}
	for name, want := range map[string]string{"program": dir + "/program", "./x": "./x", "/a/b": "/a/b", "text": "",
		"nosuch": ""} {
		if got, err := LookPath(name, env); got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}
