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
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/resolve"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/pod/prepare"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/systemd"
)

const usage = `Usage: rkt-prepare [FLAGS] IMAGE [APP FLAGS] [-- ARGS] [--- IMAGE ...]
       rkt-prepare [FLAGS] --pod-manifest=FILE

Makes a pod out of images and prints its UUID. rkt-net then gives it a network,
and rkt-run-prepared starts it.

IMAGE is what rkt-fetch takes: docker://NAME, oci:DIR, docker-archive:FILE, an
ACI file, the ID of an image in the store and more. What is not there is fetched.

Flags:
  --pod-name=NAME           a name for the pod, which no other pod may have that
                            has not exited (in a service: the unit's name)
  --uuid=UUID               the pod's UUID (in a service: that of its start,
                            which its other lines can call "self"; else random)
  --uuid-file-save=FILE     write the UUID to FILE as well
  --pull-policy=POLICY      never: only images in the store; new: fetch what is
                            not there (default); update: ask the source each time
  --port=NAME:[IP:]PORT     forward a port of the host to the port that an image
                            declares under NAME (80-tcp in a Docker image)
  --set-env=NAME=VALUE      set an environment variable for every app
  --set-env-file=FILE, --env-file=FILE
                            the same for each line of FILE, which is NAME=VALUE
                            without export or quotes, or a comment after #
  --inherit-env             apps see the environment of this program, where
                            nothing else sets a variable
  --volume=SOURCE:TARGET[:ro]
                            the host's folder or file SOURCE, at TARGET
  --volume=NAME,kind=host,source=PATH[,readOnly=true][,recursive=false]
                            [,propagation=slave]
  --volume=NAME,kind=empty[,mode=0755][,uid=0][,gid=0][,readOnly=true]
  --volume=NAME,kind=named[,source=VOLUME][,readOnly=true]
                            a volume for the apps of the pod to mount
  --mount=volume=NAME,target=PATH
                            mount it, in every app; both flags may also follow
                            an image, and mount in that app only
  --private-users           the pod's users are none of the host's: root in it has no
                            rights outside. Files keep their owners' numbers.
  --shm-size=SIZE           the size of /dev/shm, which all apps share, such as 64m
                            (in units of 1024)
  --pids-max=N              how many processes and threads the apps may have
                            together (default 4096); max for no limit but the
                            unit's TasksMax=
  --sysctl=NAME=VALUE       set a kernel parameter of the pod's own network or IPC
                            (net.*, fs.mqueue.*, kernel.msg*, kernel.sem,
                            kernel.shm*)
  --pod-manifest=FILE       appc's manifest of a pod, in the place of images and
                            of flags on what is in it; its images are in the store
  --any-platform            take ACIs that do not say for which operating system and
                            architecture they are
  --quiet                   print nothing but the UUID

Flags of an app, after its image:
  --name=NAME               the app's name (default: the last part of the image's)
  --exec=PATH               run this program instead of the image's command
  --working-dir=DIR         run it there
  --signature=FILE          its signature, if it is not beside the image
  --user=USER[:GROUP], --group=GROUP
                            as whom: a number, a name in the image, or a path in
                            the image whose owner is meant
  --supplementary-gids=GID,...
  --stdin=STREAM            null (default), or for rkt-attach: stream, a pipe, or
                            tty, a terminal
  --stdout=STREAM, --stderr=STREAM
                            log (default): the journal; null, stream, or tty
  --no-healthcheck          without the image's health check, which kills an app
                            that fails it
  --readonly-rootfs         nothing but volumes can be written to
  --pid1                    the app is PID 1 of a PID namespace of its own
  --init                    a small init is, which reaps processes and passes signals
                            on to the app
  --environment=NAME=VALUE  set an environment variable
  --env-file=FILE           set those in FILE, as --set-env-file does for all apps
  --memory=BYTES            memory limit, such as 128M (million) or 128Mi (1024*1024)
  --cpu=N                   CPU limit: 2 is two CPUs, 500m half of one
  --cpu-shares=N            its weight, 1024 by default
  --oom-score-adj=N         -1000 to 1000
  --secret=NAME,source=FILE[,target=PATH][,mode=0400][,uid=N][,gid=N]
                            give the app the content of the host's FILE when it
                            starts, in /run/secrets/NAME, for its user alone
  --ulimit=NAME=SOFT[:HARD] a resource limit, such as nofile=4096:8192, core=unlimited
                            (default: the unit's, or the shell's)
  --seccomp=mode=retain|remove[,errno=NAME],CALL,...
                            let only these system calls pass, or none of them;
                            @rkt/default-whitelist is the default, @rkt/nested
                            what makes namespaces besides, @systemd/GROUP a set
  --caps-retain=CAP,...     keep just these capabilities; empty: none
  --caps-remove=CAP,...     keep the default ones without these; all: none
  --cap-add=CAP,..., --cap-drop=CAP,...
                            the default ones with these, and without those; all
  --no-new-privileges       setuid programs and file capabilities grant nothing
  --tmpfs=DIR[:OPTION,...]  an empty directory in memory at DIR: size=64m, mode=1777,
                            uid=N, gid=N, nr_inodes=N, ro, exec, suid
  --device=/dev/X[:/dev/Y][:rwm]
                            a device of the host, and how it may be used
  --stop-signal=SIGNAL      ask the app to stop by it (default: the image's, or TERM)
  --stop-timeout=SECONDS    kill the app so long after that (default: never; the unit's
                            TimeoutStopSec= holds for the whole pod)
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
	os.Setenv("RKT_POD", o.UUID) // for what rkt-fetch tells the journal
	o.Image = func(ctx context.Context, app prepare.App) (string, error) {
		id, err := c.find(ctx, p, images, app)
		if err == nil {
			log.Debug("uses", "app", app.Name, "image", id, "name", app.Image, "pull-policy", c.pullPolicy)
		}
		return id, err
	}
	if text, err := os.ReadFile("/proc/self/oom_score_adj"); err == nil {
		o.OOMScore, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	o.Stage2, _ = cli.Sibling("rkt-stage2")
	o.Attacher, _ = cli.Sibling("rkt-attach")
	made, err := prepare.Pod(ctx, pods, images, o)
	if err != nil {
		return err
	}
	log.Debug("prepared", "name", o.Claim.Name, "own-users", o.OwnUsers)
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
		p.Say("pod %s, which an earlier start of %s prepared and never ran, has lost the name %q", from.UUID, unit, c.Name)
	}
	return c
}

// remove takes back a pod that nobody will hear of.
func remove(p *poddir.Pod) error {
	lock, err := p.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	return p.Delete()
}

// find looks an image up as the pull policy says, and runs rkt-fetch for what is to be fetched.
func (c *call) find(ctx context.Context, p *cli.Process, images *store.Store, app prepare.App) (string, error) {
	name := app.Image
	ref, err := image.ParseReference(name)
	if err != nil {
		return "", fmt.Errorf("image %q: %w", name, err)
	}
	if ref.Kind == image.ID || c.pullPolicy != "update" && !ref.Local() {
		g := c.global
		img, err := resolve.New(images, g.Insecure.Image, g.SystemConfig, g.LocalConfig, g.UserConfig).Lookup(ref)
		switch {
		case err == nil:
			return img.ID, nil
		case errors.Is(err, resolve.ErrUnverified): // rkt-fetch may lay it anew, and says why it does not
		case ref.Kind == image.ID:
			return "", fmt.Errorf("image %q: %w", name, err)
		case c.pullPolicy == "never" && errors.Is(err, store.ErrNotFound):
			return "", fmt.Errorf("unable to fetch image from %s %q: not in the store (pull policy is never)", ref.Source(), name)
		case c.pullPolicy == "never":
			return "", fmt.Errorf("image %q: %w", name, err)
		}
	}
	fetch, err := cli.Sibling("rkt-fetch")
	if err != nil {
		return "", fmt.Errorf("image %q: not in the store, and %w", name, err)
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
