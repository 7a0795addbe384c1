package rkt

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/cli/chain"
	"github.com/rkt-toolkit/rkt/lib/host/activation"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

const appcVersion = "0.8.11"

// Run is "rkt run".
var Run = &cli.Command{
	Name:     "rkt run",
	Summary:  "fetch the image, set up a pod and its network, and run it",
	Synopsis: []string{"[FLAGS] IMAGE [APP FLAGS] [-- ARGS] [--- IMAGE ...]", "[FLAGS] --pod-manifest=FILE"},
	Text: `
Fetches the images that are not in the store, prepares a pod from them, sets up its
network and runs it: the process becomes the pod.

IMAGE is what rkt-fetch takes: docker://NAME, oci:DIR, docker-archive:FILE, an ACI
file, the ID of an image in the store and more ("rkt help fetch"). Flags may also
follow an image; a flag that an app has belongs to the image before it. The
arguments of an app follow a --, and --- ends them.`,
	Examples: []cli.Example{
		{Line: "rkt run docker://redis --memory=256Mi -- --appendonly yes",
			Text: "Run an image with a memory limit and arguments of the app."},
		{Line: "rkt run --net=host --rm --interactive docker://busybox --exec=/bin/sh",
			Text: "Run a shell in the host's network, and remove the pod afterwards."},
		{Line: "rkt run --detach --port=6379-tcp:6379 --pod-name=db docker://redis",
			Text: "Run a pod in the background, and forward a port to it."},
		{Line: "rkt run docker://redis --- docker://memcached", Text: "Run two apps in one pod."},
	},
	Exit: "The status of the first app that failed, 128+n for an app that died of signal n, 0 if none failed, or " +
		"254 for an error of rkt's own.",
	SeeAlso: []string{"rkt", "rkt-fetch", "rkt-prepare", "rkt-net", "rkt-run-prepared", "rkt-unit", "systemd-nspawn"},
	Setup: func(fs *cli.Flags) cli.Run {
		registerRun(fs)
		return nil
	},
	First: func(ctx context.Context, p *cli.Process) (bool, error) {
		fs := cli.NewFlags("rkt run")
		s := registerRun(fs)
		if err := s.Parse(fs.FlagSet, p.Args); err != nil {
			return true, fmt.Errorf("run: %w", err)
		}
		return true, runChain(ctx, p, "run", fs.FlagSet, s)
	},
}

func registerRun(fs *cli.Flags) *chain.Steps {
	s := &chain.Steps{}
	s.RegisterOwn(fs)
	s.Register(fs)
	return s
}

// RunPrepared is "rkt run-prepared": rkt-run-prepared that sets up the network first.
var RunPrepared = &cli.Command{
	Name:     "rkt run-prepared",
	Summary:  "set up the network of a prepared pod, and run it",
	Synopsis: []string{"[FLAGS] POD"},
	Text: `
Sets up the network of a prepared pod and runs it: the process becomes the pod. Its
exit status is that of the first app that failed, 128+n for an app that died of
signal n, or 0.

` + cli.PodOperand,
	Setup: func(fs *cli.Flags) cli.Run {
		new(chain.Steps).RegisterPrepared(fs)
		return nil
	},
	First: func(ctx context.Context, p *cli.Process) (bool, error) {
		fs, s := cli.NewFlags("rkt run-prepared"), &chain.Steps{}
		s.RegisterPrepared(fs)
		if err := s.ParsePrepared(fs.FlagSet, p.Args); err != nil {
			return true, fmt.Errorf("run-prepared: %w", err)
		}
		return true, runChain(ctx, p, "run-prepared", fs.FlagSet, s)
	},
}

// invocation is one "rkt run" or "rkt run-prepared".
type invocation struct {
	*chain.Steps
	p       *cli.Process
	dir     string // the data directory
	undo    string // what is made for this run alone and goes with it, as rkt-run-prepared names it
	sockets []int  // descriptors that systemd has passed
}

// runChain is rkt run, and rkt run-prepared, which lacks the first step. It ends as the pod, or
// with nothing of it left.
func runChain(ctx context.Context, p *cli.Process, verb string, fs *flag.FlagSet, s *chain.Steps) error {
	g, err := settings(p, fs)
	if err != nil {
		return err
	}
	r := &invocation{Steps: s, p: p, dir: g.Dir, undo: "pod", sockets: listenFDs(p)}
	first := r.prepare
	if verb == "run-prepared" {
		r.undo, first = "network", r.find
	}
	if s.Detach {
		return detach(ctx, p, g.Dir, s)
	}
	if s.Remove && poddir.Self(p.Getenv, p.PID) != "" {
		return errors.New("run: --rm: this is the main process of a service; its unit removes the pod with " +
			"ExecStopPost=/usr/bin/rkt-gc self (or use rkt run --detach --rm)")
	}
	for _, fd := range r.sockets { // they are the pod's, not of every program of the chain
		unix.CloseOnExec(fd)
	}
	interruptible, stop := cli.Interruptible(ctx)
	defer stop()
	if err := first(interruptible); err != nil {
		return err
	}
	s.Run = append(s.Run, "--undo="+r.undo)
	argv, err := start(interruptible, p, s)
	if err != nil && verb == "run-prepared" {
		return err // rkt-net has taken back what it did
	}
	if err == nil {
		err = stop() // from here on a signal is rkt-run-prepared's, which takes the same back
	}
	return r.become(argv, err)
}

// settings has the flags that were given in the environment, for the programs of the chain, and
// returns those that all programs have: as they were given, or as the environment and rkt.conf say.
func settings(p *cli.Process, fs *flag.FlagSet) (*cli.Global, error) {
	if err := export(p, fs); err != nil {
		return nil, err
	}
	all := cli.NewFlags(p.Name)
	all.Root = true
	all.Sort = func(*cli.Process, []string) (flags, operands []string, err error) { return nil, nil, nil }
	if err := p.Parse(all); err != nil {
		return nil, err
	}
	return all.Global, nil
}

// prepare makes the pod.
func (r *invocation) prepare(ctx context.Context) error {
	if r.UUID == "" {
		r.UUID = newUUID(r.p, poddir.In(r.dir))
	}
	_, err := step(ctx, r.p, "rkt-prepare", append(append(r.Prepare, "--uuid="+r.UUID), r.Operands...)...)
	return err
}

// find finds the prepared pod.
func (r *invocation) find(context.Context) error {
	found, err := r.p.OnePod(poddir.In(r.dir), r.Operands, r.UUIDFile)
	if err == nil {
		r.UUID = found.UUID
	}
	return err
}

// become becomes rkt-run-prepared, unless a step has failed. If it returns, all that was made is
// taken back.
func (r *invocation) become(argv []string, err error) error {
	if err == nil && r.Remove {
		return runAndRemove(r.p, argv, r.dir, r.UUID)
	}
	if err == nil {
		for _, fd := range r.sockets {
			unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		}
		err = cli.Exec(argv[0], argv, r.p.Environ())
	}
	return errors.Join(err, chain.TakeBack(chain.Undo[r.undo], r.dir, r.UUID, r.p.Stderr))
}

// listenFDs are the descriptors that systemd has passed by socket activation (sd_listen_fds(3)).
func listenFDs(p *cli.Process) (fds []int) {
	for i := range activation.Names(p.Getenv, p.PID) {
		fds = append(fds, activation.First+i)
	}
	return fds
}

// start gives the pod its network and returns the command line that becomes it.
func start(ctx context.Context, p *cli.Process, s *chain.Steps) ([]string, error) {
	program, err := cli.Sibling("rkt-run-prepared")
	if err != nil {
		return nil, err
	}
	if _, err := step(ctx, p, "rkt-net", append(append([]string{"add"}, s.Net...), s.UUID)...); err != nil {
		return nil, err
	}
	return slices.Concat([]string{program}, s.Run, []string{s.UUID}), nil
}

// newUUID is the ID of this start of the service that rkt is the main process of, unless a pod has
// it already (a service may run several), or a random one.
func newUUID(p *cli.Process, pods poddir.Pods) string {
	uuid := poddir.Self(p.Getenv, p.PID)
	if uuid != "" {
		if _, err := pods.Find(uuid, ""); errors.Is(err, poddir.ErrNotFound) {
			return uuid
		}
	}
	return poddir.NewUUID()
}

// step runs a program of the chain and gives what it printed. The program has said on standard
// error why it failed.
func step(ctx context.Context, p *cli.Process, name string, args ...string) (string, error) {
	program, err := cli.Sibling(name)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.Stdin, &out, p.Stderr
	p.Debugf("run %q", cmd.Args)
	err = cmd.Run()
	if cmd.ProcessState != nil && cmd.ProcessState.Success() {
		return out.String(), nil // a signal that came too late for it; what it made counts
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return "", cli.ExitStatus(cli.ExitFailure)
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return out.String(), nil
}

// globals are the global flags that are passed on to the programs that follow.
var globals = []string{"dir", "system-config", "local-config", "user-config", "insecure-options",
	"trust-keys-from-https", "debug"}

// variable is the variable of a global flag.
func variable(name string) string {
	return "RKT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// export passes the global flags that were given on to the programs that follow.
func export(p *cli.Process, fs *flag.FlagSet) (err error) {
	fs.Visit(func(f *flag.Flag) {
		if slices.Contains(globals, f.Name) {
			err = errors.Join(err, p.Setenv(variable(f.Name), f.Value.String()))
		}
	})
	return err
}
