package pid1

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1/host/recorder"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
	"golang.org/x/sys/unix"
)

// How an app ends is said as systemd says it, so that package recorder decides for both flavors.
func TestEnd(t *testing.T) {
	exited := func(n int) unix.WaitStatus { return unix.WaitStatus(n << 8) }
	for _, c := range []struct {
		name string
		app  process
		want recorder.End
	}{
		{"well", process{}, recorder.End{Result: "success", Code: "exited", Status: "0"}},
		{"status", process{status: exited(3)}, recorder.End{Result: "exit-code", Code: "exited", Status: "3"}},
		{"killed", process{status: unix.WaitStatus(unix.SIGKILL)}, recorder.End{Result: "signal", Code: "killed",
			Status: "KILL"}},
		{"asked", process{status: unix.WaitStatus(unix.SIGTERM)}, recorder.End{Result: "success", Code: "killed",
			Status: "TERM"}},
		{"own signal", process{App: plan.App{StopSignal: int(unix.SIGQUIT)}, status: unix.WaitStatus(unix.SIGQUIT)},
			recorder.End{Result: "success", Code: "killed", Status: "QUIT"}},
		{"real-time", process{status: unix.WaitStatus(37)}, recorder.End{Result: "signal", Code: "killed",
			Status: "RTMIN+3"}},
		{"core", process{status: unix.WaitStatus(unix.SIGSEGV) | 0x80}, recorder.End{Result: "core-dump",
			Code: "dumped", Status: "SEGV"}},
		{"never started", process{died: true}, recorder.End{Result: "resources"}},
		{"asked before", process{unrun: true}, recorder.End{Result: "success"}},
		{"never said READY=1", process{App: plan.App{Notify: true}}, recorder.End{Result: "protocol", Code: "exited",
			Status: "0"}},
		{"no memory", process{starve: true, status: unix.WaitStatus(unix.SIGKILL)}, recorder.End{Result: "oom-kill",
			Code: "killed", Status: "KILL"}},
	} {
		if got := c.app.end(); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// sleeper is a process that does nothing.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd
}

// endOf waits for a process, and returns the signal by which it has ended.
func endOf(t *testing.T, cmd *exec.Cmd) syscall.Signal {
	t.Helper()
	end := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
	defer end.Stop()
	cmd.Wait()
	return cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
}

// Each app gets its own stop signal, once; one whose handler runs is not forgotten, and one that
// has ended is not asked.
func TestStop(t *testing.T) {
	first, second := sleeper(t), sleeper(t)
	p := &pod{plan: &plan.Plan{}, events: make(chan func(), 8)}
	p.apps = []*process{
		{App: plan.App{Name: "first", StopSignal: int(unix.SIGINT)}, of: p, step: running, pid: first.Process.Pid},
		{App: plan.App{Name: "second", StopSignal: int(unix.SIGUSR1)}, of: p, step: before, pid: second.Process.Pid},
		{App: plan.App{Name: "ended", StopSignal: int(unix.SIGTERM)}, of: p, step: done, pid: os.Getpid()},
	}
	p.end()
	p.end()
	if got := endOf(t, first); got != unix.SIGINT {
		t.Errorf("the first one ended by %v", got)
	}
	if got := endOf(t, second); got != unix.SIGUSR1 {
		t.Errorf("the second one ended by %v", got)
	}
	if !p.apps[0].stops || !p.apps[1].stops || p.apps[2].stops {
		t.Errorf("asked: %v %v %v", p.apps[0].stops, p.apps[1].stops, p.apps[2].stops)
	}
	if p.over() {
		t.Error("the pod is over while apps have not been swept")
	}
}

// What an app leaves in its cgroup is killed, and counted.
func TestKillGroup(t *testing.T) {
	dir := t.TempDir()
	cmd := sleeper(t)
	text := "1\n" + strconv.Itoa(cmd.Process.Pid) + "\n"
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if left := killGroup(dir); left != 1 {
		t.Errorf("%d processes", left)
	}
	if got := endOf(t, cmd); got != unix.SIGKILL {
		t.Errorf("ended by %v", got)
	}
	if left := killGroup(filepath.Join(dir, "none")); left != 0 {
		t.Errorf("no group: %d processes", left)
	}
}

func TestKills(t *testing.T) {
	for events, want := range map[string]bool{
		"low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\n": false, "oom 1\noom_kill 2\noom_group_kill 0\n": true, "": false,
	} {
		if got := kills(events); got != want {
			t.Errorf("%q: %v", events, got)
		}
	}
}

// PID 1 keeps what it starts processes with only if it is to start some.
func TestRights(t *testing.T) {
	for _, c := range []struct {
		app  plan.App
		want bool
	}{
		{plan.App{}, false}, {plan.App{PreStart: true, Notify: true}, false}, {plan.App{PostStop: true}, true},
		{plan.App{Health: &plan.Health{}}, true}, {plan.App{Streams: []string{"stdin=tty"}}, true},
	} {
		if got := startsMore([]plan.App{{}, c.app}); got != c.want {
			t.Errorf("%+v: %v", c.app, got)
		}
	}
	if got := rest(false); got != 1<<unix.CAP_KILL {
		t.Errorf("without a journal: %x", got)
	}
	if got := rest(true); got != 0x280020 {
		t.Errorf("with one: %x", got)
	}
}

// What an app's server has open is kept until it says otherwise.
func TestKept(t *testing.T) {
	p := &pod{plan: &plan.Plan{}, events: make(chan func(), 8)}
	a := &process{of: p}
	one, two, err := controlFiles()
	if err != nil {
		t.Fatal(err)
	}
	a.serverSaid("FDSTORE=1\nFDPOLL=0\nFDNAME=stdin", []int{one})
	a.serverSaid("FDSTORE=1\nFDNAME=tty", []int{two})
	a.serverSaid("FDSTOREREMOVE=1\nFDNAME=stdin", nil)
	if len(a.server.kept) != 1 || a.server.kept[0] != (keptFile{"tty", two}) {
		t.Errorf("%+v", a.server.kept)
	}
	if _, err := unix.FcntlInt(uintptr(one), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("what was given up is open: %v", err)
	}
	unix.Close(two)
}

func controlFiles() (int, int, error) {
	var fds [2]int
	err := unix.Pipe2(fds[:], unix.O_CLOEXEC)
	return fds[0], fds[1], err
}
