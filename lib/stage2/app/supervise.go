package app

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/activation"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// supervise starts this program again, as PID 1 of a new PID namespace, in which it becomes the
// app. It passes signals on, and returns the app's exit status, or ends by the signal that has
// ended the app.
func supervise(config *specs.Spec, name string) (status int, err error) {
	cmd := &exec.Cmd{Path: stage1.Stage2, Args: []string{stage1.Stage2, "app", name}, Env: asPID1(os.Environ()),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: sockets(),
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Setsid: true}}
	if config.Process.Terminal { // the app is to have it
		signal.Ignore(unix.SIGHUP, unix.SIGCONT) // which giving it up sends
		_, err := unix.IoctlRetInt(0, unix.TIOCNOTTY)
		signal.Reset(unix.SIGHUP, unix.SIGCONT)
		if err != nil {
			return 0, as(statusTerminal, fmt.Errorf("terminal: %w", err))
		}
		cmd.SysProcAttr.Setctty = true
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	if err := cmd.Start(); err != nil {
		return 0, as(statusNamespace, fmt.Errorf("new PID namespace: %w", err))
	}
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	go func() {
		for s := range signals {
			if s != unix.SIGCHLD && s != unix.SIGURG { // of Go's runtime
				cmd.Process.Signal(s)
			}
		}
	}()
	err = cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return 0, err
	}
	ended := cmd.ProcessState.Sys().(syscall.WaitStatus)
	by := ended.Signal()
	if !ended.Signaled() {
		status = ended.ExitStatus()
		by = syscall.Signal(status - 128) // rkt's init can't die of the signal that its program has died of
		if config.Annotations[stage1.InitAnnotation] != "true" || by < 1 || by > 31 {
			return status, nil
		}
	}
	signal.Reset()
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // no core of this process
	unix.Kill(os.Getpid(), by)
	return 128 + int(by), nil
}

// asPID1 is an environment in which what is said to this process is said to PID 1
// (sd_listen_fds(3), sd_watchdog_enabled(3)).
func asPID1(env []string) (changed []string) {
	for _, v := range env {
		if name, _, _ := strings.Cut(v, "="); name == "LISTEN_PID" || name == "WATCHDOG_PID" {
			v = name + "=1"
		}
		changed = append(changed, v)
	}
	return changed
}

// sockets are those that the pod's systemd has passed to this process.
func sockets() (files []*os.File) {
	for i := range activation.Names(os.Getenv, os.Getpid()) {
		files = append(files, os.NewFile(uintptr(activation.First+i), "socket"))
	}
	return files
}
