// Package gc is the program rkt-gc.
package gc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod/gc"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
)

// Command is rkt-gc.
var Command = &cli.Command{
	Name:     "rkt-gc",
	Summary:  "remove pods that have exited, and what killed programs left behind",
	Synopsis: []string{"[FLAGS]", "[FLAGS] POD ..."},
	Text: `
Without a POD, removes pods that have exited a while ago, prepared pods that were
never run, and what killed programs left behind. With PODs, removes just these,
at once. A pod that does not exist is ignored (for use in ExecStopPost=) unless
--must-exist is given, as "rkt rm" does. A running pod is an error.

Volumes for which no directory was given are the pod's own and are removed with
it; a line on standard error names those with data.

` + cli.PodOperand,
	Details: `
The first call that sees an exited pod marks it, and a later one removes it when
the grace period since then is over. rkt-gc.timer calls it regularly.`,
	Examples: []cli.Example{
		{Line: "rkt gc --grace-period=0", Text: "Remove all pods that have exited."},
		{Line: "rkt rm web", Text: "Remove the pod web."},
		{Line: "ExecStopPost=/usr/bin/rkt-gc self", Text: "Remove the service's pod when the service has stopped, as " +
			"a line of its unit."},
	},
	SeeAlso: []string{"rkt-list", "rkt-image", "rkt-volume"},
	Setup:   setup,
}

func setup(flags *cli.Flags) cli.Run {
	flags.Root = true
	var rules gc.Rules
	var uuidFile string
	var mustExist bool
	flags.DurationVar(&rules.GracePeriod, "grace-period", 30*time.Minute, "TIME: how long an exited pod is kept, "+
		"from the first call that sees it")
	flags.DurationVar(&rules.ExpirePrepared, "expire-prepared", 24*time.Hour,
		"TIME: how long a prepared pod may wait to be run")
	flags.BoolVar(&rules.MarkOnly, "mark-only", false, "only mark the pods that have exited")
	flags.BoolVar(&mustExist, "must-exist", false, "a POD that does not exist is an error")
	flags.UUIDFile(&uuidFile)
	return func(ctx context.Context, p *cli.Process) error {
		return collect(ctx, p, flags, rules, uuidFile, mustExist)
	}
}

func collect(ctx context.Context, p *cli.Process, flags *cli.Flags, rules gc.Rules, uuidFile string,
	mustExist bool) error {
	g := flags.Global
	c := &gc.Collector{
		Pods: poddir.In(g.Dir), Flavors: flavor.All(), Log: p.Log(),
		ReleaseNetwork: func(ctx context.Context, uuid string) error { return releaseNetwork(ctx, p, g, uuid) },
	}
	operands := flags.Args()
	if uuidFile != "" {
		operands = []string{"@" + uuidFile}
	}
	var failed error
	var one sync.Mutex
	c.Report = func(line string) {
		one.Lock()
		defer one.Unlock()
		if err := p.PrintLine("%s", line); err != nil {
			failed = err
		}
	}
	c.Warn = func(line string) {
		one.Lock()
		defer one.Unlock()
		p.Say("%s", line)
	}
	if len(operands) == 0 {
		return errors.Join(c.Collect(ctx, rules), failed)
	}
	var errs []error
	for _, operand := range operands {
		found, err := c.Pods.Find(operand, poddir.Self(p.Getenv, p.PID))
		if !mustExist && (errors.Is(err, poddir.ErrNotFound) || errors.Is(err, fs.ErrNotExist)) {
			p.Debugf("nothing to do: %v", err)
			continue
		}
		if err == nil {
			err = c.Remove(ctx, found)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.Report(fmt.Sprintf("%q", found.UUID))
	}
	return errors.Join(append(errs, failed)...)
}

// releaseNetwork runs rkt-net del. What can't be undone does not keep the pod: rkt-net says what is
// left.
func releaseNetwork(ctx context.Context, p *cli.Process, g *cli.Global, uuid string) error {
	program, err := cli.Sibling("rkt-net")
	if err != nil {
		return err
	}
	args := append([]string{"del", "--force"}, g.Args()...)
	out, err := exec.CommandContext(ctx, program, append(args, uuid)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s (%w)", strings.TrimSpace(string(out)), err)
	}
	_, err = p.Stderr.Write(out)
	return err
}
