// Rkt-prepare makes a pod out of images and prints its UUID.
//
//	rkt-prepare [FLAGS] IMAGE [APP FLAGS] [-- ARGS] [--- IMAGE …]
//	rkt-prepare [FLAGS] --pod-manifest=FILE
//
// The pod gets a directory of its own under the data directory, with everything in it that does not depend on the moment it
// starts; rkt-net gives it a network then, and rkt-run-prepared becomes it. In a systemd service the pod's UUID is the ID of this
// start of the service, so that the service's other lines can call the pod "self".
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/durable"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/pod"
	"github.com/rkt-toolkit/rkt/lib/prepare"
	"github.com/rkt-toolkit/rkt/lib/store"
	"github.com/rkt-toolkit/rkt/lib/systemd"
)

const usage = `Usage: rkt-prepare [FLAGS] IMAGE [APP FLAGS] [-- ARGS] [--- IMAGE ...]
       rkt-prepare [FLAGS] --pod-manifest=FILE

Makes a pod out of images and prints its UUID. rkt-net then gives it a network,
and rkt-run-prepared starts it.

IMAGE is what rkt-fetch takes: docker://NAME, oci:DIR, docker-archive:FILE, an
ACI file, the ID of an image in the store and more. What is not there is fetched.

Flags:
  --pod-name=NAME           a name for the pod (in a service: the unit's name)
  --uuid=UUID               the pod's UUID (in a service: that of its start,
                            which its other lines can call "self"; else random)
  --uuid-file-save=FILE     write the UUID to FILE as well
  --pull-policy=POLICY      never: only images in the store; new: fetch what is
                            not there (default); update: ask the source each time
  --port=NAME:[IP:]PORT     forward a port of the host to the port that an image
                            declares under NAME (80-tcp in a Docker image)
  --set-env=NAME=VALUE      set an environment variable for every app
  --set-env-file=FILE       the same for each line of FILE
  --inherit-env             apps see the environment of this program, where
                            nothing else sets a variable
  --volume=SOURCE:TARGET[:ro]
                            the host's folder or file SOURCE, at TARGET
  --volume=NAME,kind=host,source=PATH[,readOnly=true][,recursive=false]
  --volume=NAME,kind=empty[,mode=0755][,uid=0][,gid=0][,readOnly=true]
                            a volume for the apps of the pod to mount
  --mount=volume=NAME,target=PATH
                            mount it, in every app; both flags may also follow
                            an image, and mount in that app only
  --private-users           the pod's users are none of the host's: root in it has no
                            rights outside. Files keep their owners' numbers.
  --pod-manifest=FILE       appc's manifest of a pod, in the place of images and
                            of flags on what is in it; its images are in the store
  --quiet                   print nothing but the UUID

Flags of an app, after its image:
  --name=NAME               the app's name (default: the last part of the image's)
  --exec=PATH               run this program instead of the image's command
  --working-dir=DIR         run it there
  --signature=FILE          its signature, if it is not beside the image
  --user=USER, --group=GROUP
                            as whom: a number, a name in the image, or a file in
                            the image whose owner is meant
  --supplementary-gids=GID,...
  --stdin=STREAM            null (default), or for rkt-attach: stream, a pipe, or
                            tty, a terminal
  --stdout=STREAM, --stderr=STREAM
                            log (default): the journal; null, stream, or tty
  --no-healthcheck          without the image's health check, which kills an app
                            that fails it
  --readonly-rootfs         nothing but volumes can be written to
  --environment=NAME=VALUE  set an environment variable
  --memory=BYTES            as in 128M; --cpu=500m: half of a processor;
  --cpu-shares=N            its weight, 1024 by default
  --oom-score-adj=N         -1000 to 1000
  --seccomp=mode=retain|remove[,errno=NAME],CALL,...
                            let only these system calls pass, or none of them;
                            @systemd/GROUP and @docker/default-blacklist are sets
  --caps-retain=CAP,...     keep just these capabilities
  --caps-remove=CAP,...     keep the default ones without these
  --annotation=NAME=VALUE, --user-annotation=NAME=VALUE, --label=NAME=VALUE
                            into the pod's manifest (--user-label is rkt's name
                            of the last)

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST,
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help.
Each flag can be set by an environment variable (RKT_DIR, RKT_PULL_POLICY, ...)
or by a line in /etc/rkt/rkt.conf ("pull-policy never").
`

func main() { cli.Main("rkt-prepare", usage, prepareAndPrint) }

func prepareAndPrint(ctx context.Context, p *cli.Process) error {
	c, err := parse(p)
	if err != nil {
		return err
	}
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	pods := pod.In(c.global.Dir)
	images, err := store.Open(c.global.Dir)
	if err != nil {
		return err
	}
	o := c.options
	if o.UUID == "" {
		o.UUID = pod.Self(p.Getenv, p.PID)
	}
	if o.UUID == "" {
		o.UUID = pod.NewUUID()
	}
	if o.Name == "" && o.UUID == pod.Invocation(p.Getenv) { // the service's own pod has its name
		o.Name = systemd.Unit()
	}
	log := p.Log().With("pod", o.UUID)
	os.Setenv("RKT_POD", o.UUID) // for what rkt-fetch tells the journal
	o.Image = func(ctx context.Context, app prepare.App) (string, error) {
		id, err := c.find(ctx, p, images, app)
		if err == nil {
			log.Debug("uses", "app", app.Name, "image", id, "name", app.Image, "pull-policy", c.pullPolicy)
		}
		return id, err
	}
	o.Launcher, _ = cli.Sibling("rkt-exec") // few pods need them
	o.Attacher, _ = cli.Sibling("rkt-attach")
	made, err := prepare.Pod(ctx, pods, images, o)
	if err != nil {
		return err
	}
	log.Debug("prepared", "service", o.Name, "own-users", o.OwnUsers)
	if c.uuidFile != "" {
		if err := durable.WriteFile(c.uuidFile, []byte(made.UUID+"\n"), 0o644); err != nil {
			return errors.Join(err, remove(made))
		}
	}
	if _, err := fmt.Fprintln(p.Stdout, made.UUID); err != nil {
		return errors.Join(err, remove(made))
	}
	return nil
}

// remove takes back a pod that nobody will hear of.
func remove(p *pod.Pod) error {
	lock, err := p.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	return p.Delete()
}

// find looks an image up as the pull policy says, and runs rkt-fetch for what is to be fetched.
func (c *config) find(ctx context.Context, p *cli.Process, images *store.Store, app prepare.App) (string, error) {
	name := app.Image
	ref, err := image.ParseReference(name)
	if err != nil {
		return "", fmt.Errorf("image %q: %w", name, err)
	}
	if ref.Kind == image.ID {
		return name, nil
	}
	if c.pullPolicy == "never" || c.pullPolicy == "new" && !ref.Local() {
		id, err := images.Lookup(ref)
		if err == nil {
			if _, err = images.Image(id); err == nil {
				return id, nil
			}
		}
		if c.pullPolicy == "never" {
			if errors.Is(err, store.ErrNotFound) {
				return "", fmt.Errorf("image %q: not in the store (pull policy is never)", name)
			}
			return "", fmt.Errorf("image %q: %w", name, err)
		}
	}
	fetch, err := cli.Sibling("rkt-fetch")
	if err != nil {
		return "", fmt.Errorf("image %q: not in the store, and %w", name, err)
	}
	args := append(c.global.Args(), "--full", "--pull-policy="+c.pullPolicy, "--signature="+app.Signature)
	if c.quiet {
		args = append(args, "--quiet")
	}
	args = append(args, name)
	cmd := exec.CommandContext(ctx, fetch, args...)
	var id bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &id, p.Stderr, os.Environ()
	p.Debugf("run %q", cmd.Args)
	if err := cmd.Run(); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
			if app.Bare {
				return "", fmt.Errorf("image %q: taken for one since it follows an image; the arguments of an app follow a --: IMAGE -- ARGS", name)
			}
			return "", cli.ExitStatus(cli.ExitFailure) // rkt-fetch has said why
		}
		return "", fmt.Errorf("image %q: rkt-fetch: %w", name, err)
	}
	return strings.TrimSpace(id.String()), nil
}
