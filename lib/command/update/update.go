// Package update is the program rkt-update.
package update

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/pod/status"
	"github.com/rkt-toolkit/rkt/lib/pod/update"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
)

// Command is rkt-update.
var Command = &cli.Command{
	Name:     "rkt-update",
	Summary:  "take new images of services into use",
	Synopsis: []string{"[FLAGS] [UNIT ...]", "--rollback UNIT ..."},
	Text: `
For each running service whose pod asks for it, or for those that are named, asks the
registry whether the names of its images mean others now, fetches these, restarts the
service, and looks whether it goes on and passes its health check. If not, the old
images are put back, and the service and what has ended with it is started again. A
new image that was not good is not tried again.

A service asks for it by X-Rkt-Update=registry in its unit, by UPDATE=registry in
/etc/rkt/pods/NAME.env for rkt@NAME.service, or by the label
io.containers.autoupdate=registry of an app. "local" in place of "registry" asks no
registry: the image that the name means in the store is taken.`,
	Details: `
What is about to be done is recorded before, in /var/lib/rkt/update: if rkt-update is
killed, or the host goes down, the next run goes on. "rkt rollback UNIT" goes back to
the images before the last update.`,
	Examples: []cli.Example{
		{Line: "rkt update --dry-run", Text: "Show which services have new images."},
		{Line: "rkt rollback web", Text: "Go back to the images that web.service had before."},
		{Line: "systemctl enable --now rkt-update.timer", Text: "Update all that ask for it, each night."},
	},
	Exit:    "254 if a service was not updated, or was rolled back.",
	SeeAlso: []string{"rkt-fetch", "rkt-unit"},
	Setup:   setup,
}

// call is a command line.
type call struct {
	options  update.Options
	rollback bool
	jitter   time.Duration
	format   cli.Format
	fs       *cli.Flags
}

func setup(fs *cli.Flags) cli.Run {
	fs.Root = true
	c := &call{fs: fs}
	fs.BoolVar(&c.options.DryRun, "dry-run", false, "fetch new images, and take none into use")
	fs.BoolVar(&c.rollback, "rollback", false, "go back to the images before the last update, as \"rkt rollback\" does")
	fs.DurationVar(&c.jitter, "jitter", 0, "TIME: first wait for a random time of at most that")
	fs.DurationVar(&c.options.Settle, "settle", 10*time.Second, "TIME: a service has to run so long (default 10s)")
	fs.DurationVar(&c.options.Patience, "patience", 2*time.Minute,
		"TIME: so long after that a first health check may take (default 2m)")
	fs.FormatVar(&c.format, []update.Result(nil))
	return c.run
}

func (c *call) run(ctx context.Context, p *cli.Process) error {
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	units := c.fs.Args()
	if c.rollback && len(units) == 0 {
		return errors.New("--rollback: no service given (--help shows how)")
	}
	if c.jitter > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(c.jitter)):
		}
	}
	if err := c.prepare(p); err != nil {
		return err
	}
	lock, err := c.options.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	named := len(units) > 0
	if !named {
		if units, err = c.services(); err != nil {
			return err
		}
	}
	results := []update.Result{}
	for _, unit := range units {
		if !strings.HasSuffix(unit, ".service") {
			unit += ".service"
		}
		if c.rollback {
			results = append(results, c.options.Back(ctx, unit))
			continue
		}
		result, ok := c.options.Unit(ctx, unit)
		if !ok && named {
			result.Result = update.Failed
			result.Error = "asks for no updates; write X-Rkt-Update=registry in [Service] of its unit"
		}
		if ok || named {
			results = append(results, result)
		}
	}
	return c.tell(p, results)
}

// prepare has the update ask this host's store, rkt-fetch and pods.
func (c *call) prepare(p *cli.Process) (err error) {
	o, g := &c.options, c.fs.Global
	o.Pods, o.Say = poddir.In(g.Dir), p.Say
	if o.Store, err = store.Open(g.Dir); err != nil {
		return err
	}
	fetch, err := cli.Sibling("rkt-fetch")
	if err != nil {
		return err
	}
	o.Fetch = func(ctx context.Context, name string, env []string) (string, error) {
		var id, said bytes.Buffer
		args := []string{"--dir=" + g.Dir} // the service's own variables say the rest
		if g.Insecure != (cli.Insecure{}) {
			args = g.Args()
		}
		cmd := exec.CommandContext(ctx, fetch, append(args, "--full", "--quiet", "--pull-policy=update", name)...)
		cmd.Stdout, cmd.Stderr, cmd.Env = &id, &said, append(p.Environ(), env...)
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("%s (%w)", strings.TrimSpace(said.String()), err)
		}
		return strings.TrimSpace(id.String()), nil
	}
	o.Health = func(pod *poddir.Pod) (states []string, err error) {
		s, err := status.Read(pod, flavor.All())
		for _, app := range s.Apps {
			if app.Health != "" {
				states = append(states, app.Health)
			}
		}
		return states, err
	}
	return nil
}

// services are those with running pods, and those whose update is not over.
func (c *call) services() (units []string, err error) {
	running, err := c.options.Services()
	if err != nil {
		return nil, err
	}
	begun, err := c.options.Unfinished()
	units = slices.AppendSeq(begun, maps.Keys(running))
	slices.Sort(units)
	return slices.Compact(units), err
}

// tell prints what came of each service.
func (c *call) tell(p *cli.Process, results []update.Result) error {
	var errs []error
	if c.format.JSON() {
		errs = append(errs, p.PrintFormat(results, c.format))
	}
	for _, r := range results {
		if !c.format.JSON() {
			errs = append(errs, p.PrintLine("%s: %s", r.Unit, r.Result))
		}
		if r.Result == update.Failed || r.Result == update.RolledBack && !c.rollback {
			errs = append(errs, fmt.Errorf("%s: %s: %s", r.Unit, r.Result, r.Error))
		}
	}
	return errors.Join(errs...)
}
