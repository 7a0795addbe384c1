// Package prepare is the program rkt-prepare.
package prepare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/resolve"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/pod/prepare"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Command is rkt-prepare.
var Command = &cli.Command{
	Name:     "rkt-prepare",
	Summary:  "prepare a pod from images",
	Synopsis: []string{"[FLAGS] IMAGE [APP FLAGS] [-- ARGS] [--- IMAGE ...]", "[FLAGS] --pod-manifest=FILE"},
	Text: `
Prepares a pod from images and prints its UUID. rkt-net then sets up its network,
and rkt-run-prepared starts it.

IMAGE is what rkt-fetch takes: docker://NAME, oci:DIR, docker-archive:FILE, an
ACI file, the ID of an image in the store and more. Images that are not in the
store are fetched.`,
	Details: `
The pod gets a directory of its own under the data directory, with everything in it
that does not depend on the moment it starts. In a systemd service the pod's UUID
is the ID of this start of the service, so that the service's other lines can call
the pod "self".`,
	Notes: `
Each flag of the pod can be set by an environment variable (RKT_DIR,
RKT_PULL_POLICY, ...) or by a line in /etc/rkt/rkt.conf ("pull-policy never").`,
	Examples: []cli.Example{
		{Line: "rkt prepare --volume=data:/data docker://redis --memory=256Mi -- --appendonly yes",
			Text: "Prepare a pod with a named volume, a memory limit and arguments of the app."},
		{Line: "ExecStartPre=/usr/bin/rkt-prepare --quiet docker://redis",
			Text: "Prepare the pod of a service, as a line of its unit."},
	},
	Files: []cli.File{
		{Path: "/etc/rkt/rkt.conf", Text: "values for flags"},
		{Path: "/var/lib/rkt/pods/UUID", Text: "the pod's directory"},
	},
	SeeAlso: []string{"rkt-fetch", "rkt-net", "rkt-run-prepared", "rkt-unit"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	complete := register(fs)
	return func(ctx context.Context, p *cli.Process) error {
		c, err := complete(p)
		if err != nil {
			return err
		}
		return c.prepareAndPrint(ctx, p)
	}
}

func (c *call) prepareAndPrint(ctx context.Context, p *cli.Process) error {
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	pods := poddir.In(c.global.Dir)
	images, err := store.Open(c.global.Dir)
	if err != nil {
		return err
	}
	o := c.options
	if o.UUID == "" {
		o.UUID = poddir.Self(p.Getenv, p.PID)
	}
	if o.UUID == "" {
		o.UUID = poddir.NewUUID()
	}
	o.Claim = claim(p, o.Claim.Name, o.UUID)
	log := p.Log().With("pod", o.UUID)
	p.Setenv("RKT_POD", o.UUID) // for what rkt-fetch tells the journal
	o.Image = func(ctx context.Context, app prepare.App) (*store.Image, error) {
		img, err := c.find(ctx, p, images, app)
		if err == nil {
			log.Debug("uses", "app", app.Name, "image", img.ID, "name", app.Image, "pull-policy", c.pullPolicy)
		}
		return img, err
	}
	if text, err := os.ReadFile("/proc/self/oom_score_adj"); err == nil {
		o.OOMScore, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err := o.Flavor.Usable(); err != nil { // before anything is fetched for it
		return err
	}
	o.Stage2, _ = cli.Sibling("rkt-stage2")
	o.Attacher, _ = cli.Sibling("rkt-attach")
	made, err := prepare.Pod(ctx, pods, images, o)
	if err != nil {
		return err
	}
	log.Debug("prepared", "name", o.Claim.Name, "users", o.Users)
	if c.uuidFile != "" {
		if err := durable.WriteFile(c.uuidFile, []byte(made.UUID), 0o644); err != nil {
			return errors.Join(err, remove(made))
		}
	}
	if err := p.PrintLine("%s", made.UUID); err != nil {
		return errors.Join(err, remove(made))
	}
	return nil
}

// claim is the name that the pod is to have: in a service, that of the unit if no other is wanted.
func claim(p *cli.Process, name, uuid string) poddir.Claim {
	c := poddir.Claim{Name: name, Start: poddir.Invocation(p.Getenv)}
	unit := systemd.Unit()
	if name == "" && uuid == c.Start {
		c.Name = unit
	}
	if strings.HasSuffix(unit, ".service") {
		c.Unit = unit
	}
	c.Taken = func(from *poddir.Pod) {
		p.Say("pod %s, which an earlier start of %s prepared and never ran, has lost the name %q", from.UUID,
			unit, c.Name)
	}
	c.Left = func(pods int) {
		if pods >= manyLeft {
			p.Say("%s has left %d pods that have exited; the line \"ExecStopPost=/usr/bin/rkt-gc self\" of the unit "+
				"removes each, and \"rkt gc\" those that are there", unit, pods)
		}
	}
	return c
}

// manyLeft is how many pods that have exited a service may leave before a line says so:
// rkt-gc.timer removes each after half an hour.
const manyLeft = 5

// remove takes back a pod that nobody will hear of.
func remove(p *poddir.Pod) error {
	lock, err := p.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	_, err = p.Delete()
	return err
}

// find looks an image up as the pull policy says, and runs rkt-fetch for what is to be fetched.
func (c *call) find(ctx context.Context, p *cli.Process, images *store.Store, app prepare.App) (*store.Image, error) {
	name := app.Image
	ref, err := image.ParseReference(name)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", name, err)
	}
	if ref.Kind == image.ID || c.pullPolicy != "update" && !ref.Local() {
		g := c.global
		img, err := resolve.New(images, g.Insecure.Image, g.SystemConfig, g.LocalConfig, g.UserConfig).Lookup(ref)
		switch {
		case err == nil:
			return img, nil
		case errors.Is(err, resolve.ErrUnverified): // rkt-fetch may lay it anew, and says why it does not
		case ref.Kind == image.ID:
			return nil, fmt.Errorf("image %q: %w", name, err)
		case c.pullPolicy == "never" && errors.Is(err, store.ErrNotFound):
			return nil, fmt.Errorf("unable to fetch image from %s %q: not in the store (pull policy is never)",
				ref.Source(), name)
		case c.pullPolicy == "never":
			return nil, fmt.Errorf("image %q: %w", name, err)
		}
	}
	fetch, err := cli.Sibling("rkt-fetch")
	if err != nil {
		return nil, fmt.Errorf("image %q: not in the store, and %w", name, err)
	}
	args := append(c.global.Args(), "--full", "--pull-policy="+c.pullPolicy)
	if app.Signature != "" {
		args = append(args, "--signature="+app.Signature)
	}
	if c.quiet {
		args = append(args, "--quiet")
	}
	args = append(args, name)
	cmd := exec.CommandContext(ctx, fetch, args...)
	var id bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &id, p.Stderr, p.Environ()
	p.Debugf("run %q", cmd.Args)
	if err := cmd.Run(); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
			if app.Bare {
				return nil,
					fmt.Errorf("image %q: taken for one since it follows an image; the arguments of an app follow a "+
						"--: IMAGE -- ARGS", name)
			}
			return nil, cli.ExitStatus(cli.ExitFailure) // rkt-fetch has said why
		}
		return nil, fmt.Errorf("image %q: rkt-fetch: %w", name, err)
	}
	img, err := images.Image(strings.TrimSpace(id.String()))
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", name, err)
	}
	return img, nil
}
