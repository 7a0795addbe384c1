// Package enter runs a command inside a running pod, in the namespaces and the root of one of its
// apps.
//
// What the command may do follows from files of the pod's directory that only root can write, never
// from what a process of the pod has or says. It is confined before it appears in the pod:
// docs/internals.md has the order.
package enter

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/rkt-toolkit/rkt/lib/host/confine"
	"github.com/rkt-toolkit/rkt/lib/host/seccomp"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
	"golang.org/x/sys/unix"
)

// Command is what to run in which app.
type Command struct {
	App  string
	Argv []string `json:"-"` // the program by path, or by name in the PATH of Env
	Env  []string `json:"-"`
	Dir  string   // working directory in the app; "" is /
	User *User    `json:"-"` // nil is the app's

	Unfiltered bool        `json:"-"` // without seccomp filters
	Caller     [3]*os.File `json:"-"` // the caller's standard input, output and error
}

// User is as whom a command runs.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary
}

// Run runs a command in the app of a running pod, with all the limits of the app: its cgroup,
// capability bounding set, resource limits and seccomp filters. It returns its exit status; 128+n
// if it died of signal n. A terminal is not passed on, the command has one of the pod's. The
// process must do nothing else afterwards: the calling thread is in some of the pod's namespaces.
func Run(p running.Pod, c Command) (status int, err error) {
	runtime.LockOSThread()                // namespaces and ptrace(2) are of a thread
	if _, err := p.Leader(); err != nil { // which says why a pod can't be entered
		return 0, err
	}
	record, err := recordOf(p.Pod, c.App)
	if err != nil {
		return 0, err
	}
	t, err := findTarget(p, record.Record)
	if err != nil {
		return 0, err
	}
	defer t.close()
	j, err := settle(c, record, t)
	if err != nil {
		return 0, fmt.Errorf("pod %s: app %q: %w", p.UUID, c.App, err)
	}
	streams, err := newStreams(c.Caller, t.leader, t.users.onHost(j.Process.UID))
	if err != nil {
		return 0, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	defer streams.close()
	if err := t.confirm(p); err != nil {
		return 0, fmt.Errorf("pod %s: app %q: %w", p.UUID, c.App, err)
	}
	j.Terminal = streams.master != nil
	if status, err = runIn(t, j, streams); err != nil {
		return 0, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	return status, nil
}

// runIn runs a command in the namespaces of t, and returns its exit status.
func runIn(t *target, j job, streams *streams) (status int, err error) {
	for _, ns := range t.outer {
		if err := unix.Setns(int(ns.Fd()), 0); err != nil {
			return 0, fmt.Errorf("namespaces: %w", err)
		}
	}
	// The helper exits when it has forked the command, which then is a child of this process.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGWINCH)
	defer signal.Stop(signals)
	command, status, err := start(j, t, streams)
	if err != nil {
		return 0, err
	}
	if command == nil {
		streams.drain()
		return status, nil
	}
	go func() {
		for s := range signals {
			if s == unix.SIGWINCH {
				streams.resize()
			} else {
				command.Signal(s)
			}
		}
	}()
	state, err := command.Wait()
	streams.drain()
	if err != nil {
		return 0, err
	}
	return statusOf(state), nil
}

// recorded is what root's files say of an app.
type recorded struct {
	*stage1.Record
	filters [][]unix.SockFilter // seccomp filters, in the order of loading
}

// recordOf reads what the app may be and do.
func recordOf(p *poddir.Pod, app string) (*recorded, error) {
	dir := poddir.ConfigDir + "/" + app + "/"
	text, err := p.ReadFile(dir + stage1.ConfigFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pod %s: can't be entered: an older rkt prepared it, without a record of what its "+
			"apps may do; prepare and run a new one", p.UUID)
	}
	if err != nil {
		return nil, err
	}
	file := p.Path(dir + stage1.ConfigFile)
	config, err := stage1.ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	r := &recorded{}
	if r.Record, err = stage1.RecordOf(app, config); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	files := []string{poddir.FilterFile}
	if config.Linux != nil && config.Linux.Seccomp != nil {
		files = append(files, dir+stage1.FilterFile)
	}
	for _, file := range files {
		if text, err = p.ReadFile(file); err != nil {
			return nil, err
		}
		filter, err := seccomp.Unmarshal(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Path(file), err)
		}
		r.filters = append(r.filters, filter)
	}
	return r, nil
}

// settle decides what the command is and may do.
func settle(c Command, record *recorded, t *target) (j job, err error) {
	j = job{Command: c, Argv: bytesOf(c.Argv), Env: bytesOf(c.Env), Root: t.root, Groups: len(t.groups),
		AppArmor: record.AppArmorProfile, SELinux: record.SELinuxLabel,
		Process: confine.Process{UID: record.UID, GID: record.GID, Groups: record.SupplementaryGIDs,
			NoNewPrivileges: record.NoNewPrivileges}}
	if c.User != nil {
		j.Process.UID, j.Process.GID, j.Process.Groups = c.User.UID, c.User.GID, c.User.Groups
	}
	if j.Process.Bounding, err = record.Bounding(); err != nil {
		return j, err
	}
	j.Process.Bounding &= t.bounding // the pod's PID 1 may have fewer
	if j.Process.Limits, err = limits(t.process); err != nil {
		return j, err
	}
	if c.Unfiltered {
		return j, nil
	}
	j.Process.Filters = record.filters
	return j, nil
}

// start starts the helper, waits until it has forked the command, and returns that; or the helper's
// exit status, if there is none.
func start(j job, t *target, s *streams) (command *os.Process, status int, err error) {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, 0, err
	}
	defer ours.Close()
	report, reported, err := os.Pipe()
	if err != nil {
		theirs.Close()
		return nil, 0, err
	}
	defer report.Close()
	cmd := &exec.Cmd{Path: self, Args: []string{insideName}, Env: []string{"GODEBUG=asyncpreemptoff=1"},
		Stdin: s.theirs[0], Stdout: s.theirs[1], Stderr: s.theirs[2],
		ExtraFiles:  append([]*os.File{theirs, reported, t.pid, t.mounts, t.cgroup}, t.groups...),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true}} // otherwise /dev/tty would be the caller's terminal
	if t.users != nil {
		t.users.through(cmd)
	}
	err = cmd.Start()
	theirs.Close()
	reported.Close()
	if err != nil {
		return nil, 0, err
	}
	s.start()
	go json.NewEncoder(ours).Encode(j)
	text, err := io.ReadAll(io.LimitReader(report, 8))
	err = errors.Join(err, waitHelper(cmd))
	if err != nil {
		return nil, 0, err
	}
	if len(text) != 4 {
		return nil, statusOf(cmd.ProcessState), nil
	}
	// not reaped before, so it is no other's number
	command, err = os.FindProcess(int(binary.NativeEndian.Uint32(text)))
	return command, 0, err
}

// waitHelper waits for the end of the helper, which may fail.
func waitHelper(cmd *exec.Cmd) error {
	err := cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

func statusOf(state *os.ProcessState) int {
	if ws := state.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return state.ExitCode()
}

func bytesOf(list []string) (b [][]byte) {
	for _, s := range list {
		b = append(b, []byte(s))
	}
	return b
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Detach gives the process a copy of its own program that nobody can write to, and executes it,
// unless it runs from one already. A process in a pod is visible to the pod's apps, and the file of
// its program through /proc/PID/exe (CVE-2019-5736). No descriptor but 0 to 2 goes along, now or
// into the pod.
func Detach(argv, env []string) error {
	const name = "rkt-enter"
	if link, err := os.Readlink("/proc/self/exe"); err == nil && strings.HasPrefix(link, "/memfd:"+name) {
		return unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	}
	program, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer program.Close()
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	copied := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(copied, program); err != nil { // without a buffer
		return fmt.Errorf("memfd: %w", err)
	}
	// A process whose program it may not read is closed to a pod's root: before it is in all
	// namespaces it sees the host's files.
	if err := copied.Chmod(0o111); err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	if _, err := unix.FcntlInt(copied.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|
		unix.F_SEAL_WRITE); err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	return fmt.Errorf("memfd: %w", unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), argv, env))
}
