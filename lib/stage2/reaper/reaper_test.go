package reaper

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// asInit has this test program be the init: each process that it reaps is its own.
const asInit = "RKT_TEST_REAPER"

func TestMain(m *testing.M) {
	if script := os.Getenv(asInit); script != "" {
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
		status, err := Run("/bin/sh", []string{"sh", "-c", script})
		if err != nil {
			os.Stderr.WriteString(err.Error())
		}
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// reaper is a command that runs a script of the shell below an init.
func reaper(script string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asInit+"="+script)
	cmd.Stderr = os.Stderr
	return cmd
}

// The init has the status of its program, as the shell has it.
func TestStatus(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 128 + 15,
		"kill -KILL $$": 128 + 9} {
		cmd := reaper(script)
		cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: %d, want %d", script, got, want)
		}
	}
}

// A process that has lost its parent is reaped while the program runs, and its status is not the
// init's.
func TestReaps(t *testing.T) {
	out, err := reaper(`orphan=$( (exit 9 & echo $!) ) # its parent is gone
		while test -e /proc/$orphan; do sleep 0.05; done; echo reaped; exit 3`).Output()
	if status := err.(*exec.ExitError).ExitCode(); status != 3 || string(out) != "reaped\n" {
		t.Errorf("%d, %q", status, out)
	}
}

// Signals are passed on to the program, which is in a process group of its own.
func TestSignals(t *testing.T) {
	cmd := reaper(`trap 'echo HUP; exit 5' HUP; echo $(ps -o pgid= -p $$) $$; while :; do sleep 0.05; done`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 100)
	n, err := out.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	if ids := strings.Fields(string(buffer[:n])); len(ids) != 2 || ids[0] != ids[1] ||
		ids[0] == strconv.Itoa(cmd.Process.Pid) {
		t.Errorf("process group and process: %q", ids)
	}
	if err := cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	n, _ = out.Read(buffer)
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 5 || string(buffer[:n]) != "HUP\n" {
		t.Errorf("%d, %q", status, buffer[:n])
	}
}

// A program that is not there is status 203, as systemd has it.
func TestNoProgram(t *testing.T) {
	if status, err := Run("/nosuch", []string{"nosuch"}); status != 203 || !testkit.Says(err, "/nosuch") {
		t.Errorf("%d, %v", status, err)
	}
}
