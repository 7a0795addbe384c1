// Rkt-gc removes pods that have ended, and what killed programs left behind.
//
//	rkt-gc [FLAGS]
//	rkt-gc [FLAGS] POD …
//
// Without a POD it removes those that have exited a while ago: the first call that sees an exited pod marks it, and a later one
// removes it when the grace period since then is over. With PODs it removes just these, at once; a pod that is not there is no
// error, so that the line has a place in ExecStopPost=.
package main

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
	"github.com/rkt-toolkit/rkt/lib/stage1/systree"
)

const usage = `Usage: rkt-gc [FLAGS]
       rkt-gc [FLAGS] POD ...

Without a POD, removes pods that have exited a while ago, prepared pods that were
never run, and what killed programs left behind. With PODs, removes just these,
at once. A pod that does not exist is ignored (for use in ExecStopPost=) unless
--must-exist is given, as "rkt rm" does. A running pod is an error.

The volumes that are the pod's own, for which no directory was mounted, are
removed with it; a line on standard error names those with data.

POD is a UUID, the unique start of one, @FILE, a pod's name, or self.

Flags:
  --grace-period=TIME      how long an exited pod is kept, from the first call that
                           sees it (default 30m)
  --expire-prepared=TIME   how long a prepared pod may wait to be run (default 24h)
  --mark-only              only mark the pods that have exited
  --must-exist             a POD that is not there is an error
  --uuid-file=FILE         the pod whose UUID is in FILE

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST,
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help.
`

func main() { cli.Main("rkt-gc", usage, collect) }

func collect(ctx context.Context, p *cli.Process) error {
	flags, g := p.RootFlags()
	var rules gc.Rules
	var uuidFile string
	var mustExist bool
	flags.DurationVar(&rules.GracePeriod, "grace-period", 30*time.Minute, "")
	flags.DurationVar(&rules.ExpirePrepared, "expire-prepared", 24*time.Hour, "")
	flags.BoolVar(&rules.MarkOnly, "mark-only", false, "")
	flags.BoolVar(&mustExist, "must-exist", false, "")
	flags.StringVar(&uuidFile, "uuid-file", "", "")
	if err := p.ParseAnywhere(flags, g, p.Args); err != nil {
		return err
	}
	c := &gc.Collector{
		Pods: poddir.In(g.Dir), Systemd: systree.In(g.Dir), Log: p.Log(),
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

// releaseNetwork runs rkt-net del. What can't be undone does not keep the pod: rkt-net says what is left.
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
