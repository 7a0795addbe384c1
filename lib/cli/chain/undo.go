package chain

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"github.com/rkt-toolkit/rkt/lib/cli"
)

// Undo has for each value of "rkt-run-prepared --undo" the command that takes back what was made
// for a start that failed, except for the pod's UUID at its end.
var Undo = map[string][]string{
	"network": {"rkt-net", "del"},
	"pod":     {"rkt-gc"},
}

// TakeBack runs a command of Undo for a pod of the data directory dir. Its process group is its
// own: the interrupts of a terminal, by which the start may have failed, do not reach it.
func TakeBack(command []string, dir, uuid string, stderr io.Writer) error {
	program, err := cli.Sibling(command[0])
	if err != nil {
		return err
	}
	cmd := exec.Command(program, append(slices.Clone(command[1:]), uuid)...)
	cmd.Env, cmd.Stderr = append(os.Environ(), "RKT_DIR="+dir), stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return cli.ExitStatus(cli.ExitFailure) // it has said why
	}
	if err != nil {
		return fmt.Errorf("%s: %w", command[0], err)
	}
	return nil
}
