package rkt

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/cli/chain"
	"golang.org/x/sys/unix"
)

// runAndRemove is the last step of rkt run --rm: it waits for the end of the program that becomes
// the pod, instead of becoming it, and removes the pod. Its status is the pod's.
func runAndRemove(p *cli.Process, argv []string, dir, uuid string) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP) // until the pod is removed
	cmd := &exec.Cmd{Path: argv[0], Args: argv, Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr}
	err := cmd.Start()
	if err == nil {
		go func() {
			for s := range signals {
				if s == unix.SIGTERM || !fromTerminal() {
					cmd.Process.Signal(s)
				}
			}
		}()
		err = cmd.Wait()
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = cli.ExitStatus(exit.ExitCode())
		if ended := exit.Sys().(syscall.WaitStatus); ended.Signaled() {
			err = cli.ExitStatus(128 + int(ended.Signal()))
		}
	}
	return errors.Join(err, chain.TakeBack(chain.Undo["pod"], dir, uuid, p.Stderr))
}

// fromTerminal reports whether the process is in the foreground of its terminal, whose interrupts
// and hang-up reach the pod's process then as well, which takes a second one for "at once".
func fromTerminal() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
