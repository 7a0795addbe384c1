package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/cli/chain"
	"github.com/rkt-toolkit/rkt/lib/host/activation"
	"github.com/rkt-toolkit/rkt/lib/pod/run"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/systemd"
	"golang.org/x/sys/unix"
)

const appcVersion = "0.8.11"

const runUsage = `Usage: rkt run [FLAGS] IMAGE [APP FLAGS] [-- ARGS] [--- IMAGE ...]
       rkt run [FLAGS] --pod-manifest=FILE

Fetches the images that are not in the store, makes a pod of them, gives it a
network and becomes it. Takes the flags of rkt-prepare, of rkt-net add and of
rkt-run-prepared:

  --net=NAME[:KEY=VALUE;...],...   networks (default: default), host, or none
  --port=NAME:[IP:]PORT            forward a port of the host
  --dns=ADDRESS,..., --hosts-entry=ADDRESS=NAME,...
                                   how apps find names; "rkt-net --help" tells more
  --hostname=NAME                  the pod's host name (default rkt-UUID)
  --interactive                    give the pod's one app the terminal
  --mds-register                   tell the apps of the metadata service

and two of its own:

  --rm                             remove the pod when it has exited
  -d, --detach                     run it in a unit of systemd's, and print the
                                   unit's name once the apps have been started

and those that "rkt help prepare" lists. They may also follow an image; a flag
that an app has belongs to the image before it.
`

// runChain is rkt run, and rkt run-prepared, which lacks the first step. It ends as the pod, or with nothing of it left.
func runChain(ctx context.Context, p *cli.Process, verb string, args []string) error {
	fs, _ := p.Flags()
	parse := chain.Parse
	if verb == "run-prepared" {
		parse = chain.ParsePrepared
	}
	s, err := parse(fs, args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(p.Stdout, runUsage)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	if err := export(fs); err != nil {
		return err
	}
	settings, g := p.RootFlags() // also of the environment, which has those that were given now, and rkt.conf
	if err := p.ParseSorted(settings, g, nil, nil); err != nil {
		return err
	}
	if verb == "run" { // a prepared pod has its own
		if _, err := systemd.Nspawn(); err != nil { // before anything is made for it
			return err
		}
	}
	if s.Detach {
		return detach(ctx, p, g.Dir, s)
	}
	if s.Remove && poddir.Self(p.Getenv, p.PID) != "" {
		return errors.New("run: --rm: this is the main process of a service; its unit removes the pod with ExecStopPost=/usr/bin/rkt-gc self " +
			"(or use rkt run --detach --rm)")
	}
	sockets := listenFDs(p)
	for _, fd := range sockets { // they are the pod's, not of every program of the chain
		unix.CloseOnExec(fd)
	}
	interruptible, stop := cli.Interruptible(ctx)
	defer stop()
	pods := poddir.In(g.Dir)
	if verb == "run" {
		if s.UUID == "" {
			s.UUID = newUUID(p, pods)
		}
		_, err = step(interruptible, p, "rkt-prepare", append(append(s.Prepare, "--uuid="+s.UUID), s.Operands...)...)
	} else {
		var found *poddir.Pod
		if found, err = p.OnePod(pods, s.Operands, s.UUIDFile); err == nil {
			s.UUID = found.UUID
		}
	}
	if err != nil {
		return err
	}
	undo := "pod" // what was made for this run alone goes with it
	if verb == "run-prepared" {
		undo = "network"
	}
	s.Run = append(s.Run, "--undo="+undo)
	argv, err := start(interruptible, p, s)
	if err != nil && verb == "run-prepared" {
		return err // rkt-net has taken back what it did
	}
	if err == nil {
		if err = stop(); err == nil { // from here on a signal is rkt-run-prepared's, which takes the same back
			if s.Remove {
				return runAndRemove(p, argv, g.Dir, s.UUID)
			}
			for _, fd := range sockets {
				unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
			}
			err = cli.Exec(argv[0], argv, os.Environ())
		}
	}
	return errors.Join(err, run.TakeBack(run.Undo[undo], g.Dir, s.UUID, p.Stderr))
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

// newUUID is the ID of this start of the service that rkt is the main process of, unless a pod has it already (a service may
// run several), or a random one.
func newUUID(p *cli.Process, pods poddir.Pods) string {
	uuid := poddir.Self(p.Getenv, p.PID)
	if uuid != "" {
		if _, err := pods.Find(uuid, ""); errors.Is(err, poddir.ErrNotFound) {
			return uuid
		}
	}
	return poddir.NewUUID()
}

// step runs a program of the chain and gives what it printed. The program has said on standard error why it failed.
func step(ctx context.Context, p *cli.Process, name string, args ...string) (string, error) {
	program, err := cli.Sibling(name)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, &out, p.Stderr
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
var globals = []string{"dir", "system-config", "local-config", "user-config", "insecure-options", "trust-keys-from-https", "debug"}

// variable is the variable of a global flag.
func variable(name string) string {
	return "RKT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// export passes the global flags that were given on to the programs that follow.
func export(fs *flag.FlagSet) (err error) {
	fs.Visit(func(f *flag.Flag) {
		if slices.Contains(globals, f.Name) {
			err = errors.Join(err, os.Setenv(variable(f.Name), f.Value.String()))
		}
	})
	return err
}
