package enter

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/confine"
	"github.com/rkt-toolkit/rkt/lib/host/printable"
	"golang.org/x/sys/unix"
)

// The helper, which forks the command, is of the same program, under this name or with it as its
// argument. A file that is several programs is rkt-enter by it.
const (
	self       = "/proc/self/exe"
	insideName = "/proc/self/rkt-enter"
)

// Descriptors of the helper besides 0 to 2: the job as JSON, where the command's process ID is to
// be written, the namespaces to join, and the files cgroup.procs of the app's cgroups.
const (
	jobFD = 3 + iota
	reportFD
	pidFD
	mountFD
	cgroupFD
	groupsFD
)

// lastFD is the only descriptor besides 0 to 2 that the forking thread keeps: reportFD, moved.
const lastFD = 3

// job is a command with what it may be and do.
type job struct {
	Command   Command
	Argv, Env [][]byte // the command's, which need not be what JSON takes for text
	Process   confine.Process
	Root      fileID // of the app
	Groups    int    // how many cgroups
	Terminal  bool   // standard input is to be its controlling terminal
	AppArmor  string // the profile of the app
	SELinux   string // and its label
}

// Inside reports whether a process with these arguments is the helper.
func Inside(args []string) bool {
	return args[len(args)-1] == insideName && (len(args) == 1 || len(args) == 2 && strings.HasPrefix(args[0],
		"/proc/self/"))
}

// Become is the helper: it is outside of the pod's PID namespace, so no process of the pod sees it,
// and has the pod's user namespace already. Its thread becomes what the command is to be, and forks
// it into the pod. It returns only on failure.
func Become() error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	var j job
	if err := json.NewDecoder(os.NewFile(jobFD, "job")).Decode(&j); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	if len(j.Argv) == 0 {
		return errors.New("job: no command")
	}
	return fmt.Errorf("app %q: %w", j.Command.App, j.fork())
}

// fork returns only on failure; else the process has exited when the child is in the pod.
func (j *job) fork() error {
	if err := confine.AppArmor.Label(j.AppArmor); err != nil { // while /proc is the host's
		return err
	}
	if err := confine.SELinux.Label(j.SELinux); err != nil {
		return err
	}
	if err := j.join(); err != nil {
		return err
	}
	if err := j.Process.Apply(); err != nil {
		return err
	}
	if j.Command.Dir == "" || unix.Chdir(j.Command.Dir) != nil {
		if err := unix.Chdir("/"); err != nil {
			return err
		}
	}
	program, err := confine.LookPath(string(j.Argv[0]), j.Env)
	if err != nil {
		return err
	}
	c, err := confine.NewProgram(program, j.Argv, j.Env, j.Process.Filters, j.failure())
	if err != nil {
		return err
	}
	c.Terminal, c.Ignoring = j.Terminal, true
	// A change of IDs resets it. Who may not look into the pod's PID 1 may then not look into the
	// child either.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	if err := closeFiles(); err != nil {
		return err
	}
	return fmt.Errorf("fork: %w", c.Fork(lastFD))
}

// failed is rkt's own exit status for a command that could not be started.
const failed = 254

// failure is what the command says if it can't be started in the pod.
func (j *job) failure() confine.Failure {
	line := func(what string) func(unix.Errno) string {
		return func(errno unix.Errno) string {
			return printable.Line(fmt.Sprintf("rkt-enter: app %q: %s: %v", j.Command.App, what, errno))
		}
	}
	return confine.Failure{Filter: line("seccomp filter"), FilterStatus: failed, Exec: line(string(j.Argv[0])),
		ExecStatus: failed}
}

// join moves the calling thread into the app's namespaces and root directory, and the process into
// its cgroups. The thread's children will be in the PID namespace.
func (j *job) join() error {
	if err := unix.Setns(pidFD, unix.CLONE_NEWPID); err != nil {
		return fmt.Errorf("PID namespace: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		// a mount namespace takes a thread with a root directory of its own
		return err
	}
	if err := unix.Setns(mountFD, unix.CLONE_NEWNS); err != nil { // the root directory becomes that of the namespace
		return fmt.Errorf("mount namespace: %w", err)
	}
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	id, err := idOf(root)
	unix.Close(root)
	if err != nil {
		return err
	}
	if id != j.Root {
		return errors.New("the root of its mount namespace is not the app's")
	}
	for i := range j.Groups {
		if _, err := unix.Write(groupsFD+i, []byte("0")); err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
	}
	if err := unix.Setns(cgroupFD, unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("cgroup namespace: %w", err)
	}
	return nil
}

// closeFiles closes all descriptors of the calling thread but 0 to 2 and lastFD. Other threads keep
// theirs.
func closeFiles() error {
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return err
	}
	if err := unix.Dup3(reportFD, lastFD, unix.O_CLOEXEC); err != nil {
		return err
	}
	return unix.CloseRange(lastFD+1, math.MaxUint32, 0)
}
