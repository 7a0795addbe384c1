// Package stop is the program rkt-stop.
package stop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/program"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
)

// Command is rkt-stop.
var Command = &cli.Command{
	Name:     "rkt-stop",
	Summary:  "shut running pods down",
	Synopsis: []string{"[FLAGS] POD ..."},
	Text: `
Shuts running pods down cleanly, waits until they have exited, and prints their
UUIDs. Stopping a pod that has exited already is not an error.

` + cli.PodOperand,
	Details: `
The pod's PID 1 stops the apps in order, each with its stop signal, whoever
else has asked for the same.`,
	Examples: []cli.Example{
		{Line: "rkt stop web", Text: "Stop the pod with the name web, and wait until it has exited."},
		{Line: "rkt stop --timeout=90s web || rkt stop --force web",
			Text: "Kill the pod if it has not exited after 90 seconds."},
	},
	SeeAlso: []string{"rkt-kill", "rkt-status", "rkt-gc"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	fs.Root = true
	var how stopping
	var uuidFile string
	fs.BoolVar(&how.force, "force", false, "kill the pod at once")
	fs.BoolVar(&how.noBlock, "no-block", false, "ask the pod to stop, and do not wait until it has exited")
	fs.DurationVar(&how.timeout, "timeout", 0, "TIME: wait for so long at most, such as 90s: after that it is an "+
		"error, and the pod goes on stopping (default: wait without limit)")
	fs.UUIDFile(&uuidFile)
	return func(ctx context.Context, p *cli.Process) error {
		operands := fs.Args()
		if uuidFile != "" {
			operands = []string{"@" + uuidFile}
		}
		if len(operands) == 0 {
			return errors.New("no pod given (--help shows how)")
		}
		if err := how.check(); err != nil {
			return err
		}
		return how.all(ctx, p, poddir.In(fs.Global.Dir), operands)
	}
}

// stopping is how pods are stopped.
type stopping struct {
	force, noBlock bool
	timeout        time.Duration
}

// check refuses what contradicts itself.
func (s stopping) check() error {
	switch {
	case s.force && s.noBlock:
		return errors.New("--force and --no-block: use one of them")
	case s.timeout > 0 && (s.force || s.noBlock):
		return errors.New("--timeout: is for a stop that is waited for; use it without --force and --no-block")
	}
	return nil
}

// all stops the pods, which are all asked before one of them is waited for.
func (s stopping) all(ctx context.Context, p *cli.Process, pods poddir.Pods, operands []string) error {
	var errs []error
	var asked []*poddir.Pod
	for _, operand := range operands {
		found, err := pods.Find(operand, poddir.Self(p.Getenv, p.PID))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		back := comesBack(ctx, found, s.force)
		if s.force {
			err = running.Kill(found, p.Log())
		} else {
			err = ask(found, p)
		}
		if err == nil {
			asked = append(asked, found)
			if back != "" {
				p.Say("pod %s: %s", found.UUID, back)
			}
		}
		errs = append(errs, err)
	}
	end := time.Now().Add(s.timeout)
	for _, found := range asked {
		err := s.wait(found, end)
		if err == nil {
			err = p.PrintLine("%q", found.UUID)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// comesBack says of a pod that is about to be stopped that systemd will start its service again;
// "" is that it will not, as far as can be told.
func comesBack(ctx context.Context, found *poddir.Pod, killed bool) string {
	pid, err := found.Supervisor()
	if err != nil || !systemd.Booted() {
		return ""
	}
	unit := systemd.UnitOf(pid)
	if !strings.HasSuffix(unit, ".service") {
		return ""
	}
	out, err := program.Command(ctx, "systemctl", "show", "--property=ActiveState,Restart", unit).Output()
	if err != nil {
		return ""
	}
	state := strings.Fields(string(out))
	if slices.Contains(state, "ActiveState=deactivating") { // by systemctl stop, of which this is a part
		return ""
	}
	restarts := []string{"Restart=always", "Restart=on-success"}
	if killed {
		restarts = []string{"Restart=always", "Restart=on-failure", "Restart=on-abnormal", "Restart=on-abort"}
	}
	for _, restart := range restarts {
		if slices.Contains(state, restart) {
			return fmt.Sprintf("%s has %s: systemd starts it again; systemctl stop %[1]s stops it for good",
				unit, restart)
		}
	}
	return ""
}

func ask(found *poddir.Pod, p *cli.Process) error {
	pod, err := running.Of(found, flavor.All())
	if err != nil {
		return err
	}
	return pod.Ask(p.Log())
}

// wait waits until a pod that was asked has exited.
func (s stopping) wait(found *poddir.Pod, end time.Time) error {
	if s.force || s.noBlock {
		return nil
	}
	limit := time.Duration(0)
	if s.timeout > 0 {
		limit = max(time.Until(end), time.Millisecond)
	}
	err := running.Await(found, limit)
	switch {
	case errors.Is(err, poddir.ErrNotFound): // it has exited, and was removed
		return nil
	case errors.Is(err, running.ErrStillRuns):
		return fmt.Errorf("pod %s: still stopping after %s; wait with rkt status --wait %[1]s, or kill it with rkt "+
			"stop --force %[1]s", found.UUID, s.timeout)
	}
	return err
}
