// Package launcher is the process on the host that a pod of flavor init has: it makes the pod's
// namespaces, starts the pod's PID 1 in them, holds the pod's lock, carries requests to stop to PID
// 1 and news from there to the host's unit, and ends with PID 1's exit status.
package launcher

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/activation"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/bus"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/pid1"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Root is the pod's root as the launcher sees it, and Command the subcommand of rkt-stage2.
const (
	Root    = pid1.Outside
	Command = "launch"
)

// lost is the status of a pod whose PID 1 was killed.
const lost = 255

// forgetWait is how long systemd-machined may take to forget a pod that has ended.
const forgetWait = time.Second

// asks are signals that ask for the end of the pod: what systemd, a terminal and machinectl(1) send
// to a container's manager or PID 1.
var asks = []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT,
	pid1.StopSignal, pid1.StopSignal + 1, pid1.StopSignal + 2}

// passed are the descriptors that the launcher has been given, -1 for none: of the pod's cgroup, of
// a socket of the host's unit, and of the master of a pseudo terminal; and the controllers that the
// groups below the pod's are to have.
type passed struct {
	group, notify, master int
	controllers           []string
}

func parse(args []string) (passed, error) {
	if len(args) < 3 {
		return passed{}, errors.New("launch: not GROUP NOTIFY TERMINAL [CONTROLLER...]")
	}
	group, errGroup := strconv.Atoi(args[0])
	notify, errNotify := strconv.Atoi(args[1])
	master, errMaster := strconv.Atoi(args[2])
	return passed{group, notify, master, args[3:]}, errors.Join(errGroup, errNotify, errMaster)
}

// Run takes descriptors, see passed. The caller has locked the thread, which must not end before
// the pod's PID 1.
func Run(args []string) (status int, err error) {
	fds, err := parse(args)
	if err != nil {
		return 0, err
	}
	// The pod's lock is this process's alone.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return 0, err
	}
	p, err := plan.Read(Root)
	if err != nil {
		return 0, err
	}
	// As soon as the process listens no signal is lost; PID 1 hears of it when it is ready to.
	signals := make(chan os.Signal, 16)
	for _, s := range asks {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	own, theirs, err := controlPair()
	if err != nil {
		return 0, err
	}
	terminal, err := openTerminal(p, fds.master)
	if err != nil {
		return 0, fmt.Errorf("terminal: %w", err)
	}
	init, err := start(p, fds, theirs, terminal)
	if err != nil {
		return 0, fmt.Errorf("PID 1: %w", err)
	}
	go obey(init)
	go carry(signals, own, func() { init.Process.Kill() })
	go tell(own, fds.notify)
	if len(fds.controllers) > 0 {
		if err := limit(fds, p.Limits, init.Process.Pid); err != nil {
			return 0, fmt.Errorf("limits: %w", err)
		}
		own.Write([]byte(pid1.Placed))
	}
	unix.Close(fds.group)
	if terminal != nil {
		if err := terminal.begin(init); err != nil {
			return 0, fmt.Errorf("terminal: %w", err)
		}
		defer terminal.end()
	}
	return wait(p, init)
}

// wait waits for PID 1, and returns its exit status.
func wait(p *plan.Plan, init *exec.Cmd) (int, error) {
	err := init.Wait()
	if p.Machine != "" {
		// Else it notices that the unit is inactive between two pods, and stops the second one. The
		// bus is not under the process's root any more.
		bus.Unregister("/proc/1/root"+bus.Socket, p.Machine, forgetWait)
	}
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return 0, err
	}
	if !init.ProcessState.Exited() {
		return lost, nil
	}
	return init.ProcessState.ExitCode(), nil
}

// obey kills the pod when systemd sends what it sends when the unit's WatchdogSec= is over.
func obey(init *exec.Cmd) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGABRT)
	<-signals
	init.Process.Kill()
}

// controlPair are the two ends of a socket that keeps messages apart.
func controlPair() (own, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

// start starts the pod's PID 1 in its namespaces and its cgroup. The kernel kills it, and with it
// all processes of the pod, when this process ends.
func start(p *plan.Plan, fds passed, control *os.File, t *terminal) (*exec.Cmd, error) {
	null, err := os.Open(Root + "/dev/null")
	if err != nil {
		return nil, err
	}
	defer null.Close()
	attr := &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL, UseCgroupFD: true, CgroupFD: fds.group,
		Cloneflags:   unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS,
		Unshareflags: unix.CLONE_NEWCGROUP, // of the group that the process is in by then
	}
	if !p.HostIPC {
		attr.Cloneflags |= unix.CLONE_NEWIPC
	}
	if p.Users != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		ids := []syscall.SysProcIDMap{{HostID: int(p.Users), Size: pid1.Users}}
		attr.UidMappings, attr.GidMappings, attr.GidMappingsEnableSetgroups = ids, ids, true
		attr.Credential = &syscall.Credential{}
	}
	files := []*os.File{control}
	for i := range p.Sockets {
		files = append(files, os.NewFile(uintptr(activation.First+i), "socket"))
	}
	if t != nil && t.stdin != nil {
		files = append(files, t.stdin)
	}
	args := []string{"rkt-stage2", pid1.Command}
	if len(fds.controllers) > 0 {
		args = append(args, pid1.Placed)
	}
	cmd := &exec.Cmd{Path: Root + stage1.Stage2, Args: args,
		Env:   []string{"GOMAXPROCS=2"},
		Stdin: null, Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: files, SysProcAttr: attr}
	err = cmd.Start()
	for _, f := range files {
		f.Close()
	}
	return cmd, err
}

// carry asks PID 1 to end the pod. It kills PID 1 at the second signal of those by which users and
// systemd ask: another of those by which a PID 1 is asked shortens nothing.
func carry(signals <-chan os.Signal, control *os.File, kill func()) {
	asked, urged := false, false
	for s := range signals {
		if !asked {
			asked = true
			if term.IsTerminal(2) {
				fmt.Fprint(os.Stderr, "Trying to halt the pod; ^C again kills it.\r\n")
			}
			control.Write([]byte(pid1.AskToStop))
		}
		if n, ok := s.(unix.Signal); ok && n >= pid1.StopSignal {
			continue
		}
		if urged {
			kill()
		}
		urged = true
	}
}

// tell tells the host's unit what PID 1 says.
func tell(control *os.File, notify int) {
	message := make([]byte, 4096)
	for {
		n, err := control.Read(message)
		if err != nil || n == 0 {
			return
		}
		if notify >= 0 {
			unix.Write(notify, bytes.TrimSpace(message[:n]))
		}
	}
}
