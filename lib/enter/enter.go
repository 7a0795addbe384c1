// Package enter runs a command inside a running pod, in the namespaces and the root of one of its apps.
package enter

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cgroup"
	"github.com/rkt-toolkit/rkt/lib/pod"
	"github.com/rkt-toolkit/rkt/lib/running"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// Command is what to run in which app.
type Command struct {
	App    string   // may be "" in a pod of one app
	Argv   []string `json:"-"` // the program by path, or by name in the PATH of Env
	Env    []string `json:"-"`
	Dir    string   // working directory in the app; "" is /
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary

	Unfiltered bool // without the app's filter of system calls
}

// Run runs a command in the app of a running pod, with all the limits of the app: its control group, capabilities, resource limits and
// filters of system calls. It returns its exit status; 128+n if it died of signal n. A terminal is not passed on, the command has one
// of the pod's. The process must do nothing else afterwards: what the calling thread starts is in the pod.
func Run(p *pod.Pod, c Command) (status int, err error) {
	leader, err := running.Leader(p)
	if err != nil {
		return 0, err
	}
	target := running.AppProcess(leader, c.App, stage1.AppRoot(c.App))
	for end := time.Now().Add(2 * time.Second); target == 0; time.Sleep(10 * time.Millisecond) { // it may be starting
		if _, ended := p.AppStatus(c.App); ended || time.Now().After(end) {
			return 0, fmt.Errorf("pod %s: app %q does not run", p.UUID, c.App)
		}
		target = running.AppProcess(leader, c.App, stage1.AppRoot(c.App))
	}
	runtime.LockOSThread()
	pidfd, err := unix.PidfdOpen(target, 0)
	if err != nil {
		return 0, fmt.Errorf("process %d: %w", target, err)
	}
	held := os.NewFile(uintptr(pidfd), "the app")
	defer held.Close()
	if !running.SamePIDNamespace(leader, target) { // the descriptor holds the process; its number may be another's now
		return 0, fmt.Errorf("pod %s: app %q has just ended", p.UUID, c.App)
	}
	j, files, err := settle(c, target)
	if err != nil {
		return 0, fmt.Errorf("pod %s: app %q: %w", p.UUID, c.App, err)
	}
	defer closeAll(files)
	users, err := usersOf(leader)
	if err != nil {
		return 0, fmt.Errorf("pod %s: user namespace: %w", p.UUID, err)
	}
	namespaces := unix.CLONE_NEWPID
	if users != nil {
		defer closeAll(users.files)
		j.Shifted = true
		namespaces |= unix.CLONE_NEWNET // is the host's, nobody in the pod could join it
	}
	streams, err := newStreams(leader, users.onHost(c.UID))
	if err != nil {
		return 0, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	defer streams.close()
	theirs, ours, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer ours.Close()
	if err := unix.Setns(pidfd, namespaces); err != nil {
		return 0, fmt.Errorf("pod %s: namespaces: %w", p.UUID, err)
	}
	cmd := &exec.Cmd{Path: self, Args: []string{self, insideName}, Env: []string{"GODEBUG=asyncpreemptoff=1"},
		Stdin: streams.theirs[0], Stdout: streams.theirs[1], Stderr: streams.theirs[2],
		ExtraFiles: append([]*os.File{theirs, held}, files...),
		// A session of its own: /dev/tty would be the caller's terminal.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: streams.master != nil, Ctty: 0}}
	if users != nil {
		users.through(cmd)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGWINCH)
	defer signal.Stop(signals)
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return 0, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	streams.start()
	go json.NewEncoder(ours).Encode(j)
	go func() {
		for s := range signals {
			if s == unix.SIGWINCH {
				streams.resize()
			} else {
				cmd.Process.Signal(s)
			}
		}
	}()
	err = cmd.Wait()
	streams.drain()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return 0, err
	}
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}

// settle finds what the command shares with a process of the app, and opens what leads there: the root, and the control groups.
func settle(c Command, target int) (j job, files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
		}
	}()
	j.Command, j.Argv, j.Env = c, bytesOf(c.Argv), bytesOf(c.Env)
	if j.Bounding, err = running.BoundingSet(target); err != nil {
		return j, nil, err
	}
	if j.NoNewPrivileges, err = running.NoNewPrivileges(target); err != nil {
		return j, nil, err
	}
	if !c.Unfiltered {
		if j.Filters, err = filters(target); err != nil {
			return j, nil, err
		}
	}
	if j.Limits, err = limits(target); err != nil {
		return j, nil, err
	}
	groups, err := cgroup.Of(target)
	if err != nil {
		return j, nil, err
	}
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", target), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return j, nil, err
	}
	files = append(files, root)
	for _, dir := range groups {
		procs, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
		if err != nil {
			return j, files, err
		}
		files = append(files, procs)
		j.Groups++
	}
	return j, files, nil
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

// Detach gives the process a copy of its own program that nobody can write to, and executes it, unless it runs from one already. A
// process in a pod is visible to the pod's apps, and the file of its program through /proc/PID/exe (CVE-2019-5736). No descriptor but
// 0 to 2 goes along, now or into the pod.
func Detach(argv, env []string) error {
	const name = "rkt-enter"
	if link, err := os.Readlink("/proc/self/exe"); err == nil && strings.HasPrefix(link, "/memfd:"+name) {
		return unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	copied := os.NewFile(uintptr(fd), name)
	if _, err := copied.Write(program); err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	// A process whose program it may not read is closed to a pod's root: before it is in all namespaces it sees the host's files.
	if err := copied.Chmod(0o111); err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	if _, err := unix.FcntlInt(copied.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	return fmt.Errorf("memfd: %w", unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), argv, env))
}
