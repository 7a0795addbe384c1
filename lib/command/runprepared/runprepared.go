// Package runprepared is the program rkt-run-prepared.
package runprepared

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/cli/chain"
	"github.com/rkt-toolkit/rkt/lib/pod/run"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
)

// Command is rkt-run-prepared.
var Command = &cli.Command{
	Name:     "rkt-run-prepared",
	Summary:  "run a prepared pod",
	Synopsis: []string{"[FLAGS] POD"},
	Text: `
Runs a prepared pod: the process turns into systemd-nspawn, which runs the pod's
own systemd, which runs the apps. Its exit status is that of the first app that
failed, 128+n for an app that died of signal n, or 0.

` + cli.PodOperand + `
The pod needs a network first: see rkt-net.`,
	Details: `
It makes a mount namespace, mounts the apps' file systems there, and executes
systemd-nspawn in its own place: the process that started it has the pod itself
as its child, and no process of the toolkit keeps running. The pod's lock is
inherited, so the pod counts as running for exactly as long as it does.`,
	Examples: []cli.Example{
		{Line: "uuid=$(rkt prepare docker://redis) && rkt run-prepared $uuid",
			Text: "Prepare a pod, and run it later."},
		{Line: "ExecStart=/usr/bin/rkt-run-prepared self",
			Text: "Run the pod that ExecStartPre= lines have prepared, as a line of a service's unit."},
	},
	Exit: "The status of the first app that failed, 128+n for an app that died of signal n, 0 if none failed, or " +
		"254 for an error of rkt's own.",
	SeeAlso: []string{"rkt-prepare", "rkt-net", "rkt-unit", "systemd-nspawn"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	fs.Root = true
	var o run.Options
	var uuidFile, undo string
	fs.StringVar(&o.Hostname, "hostname", "", "NAME: the pod's host name (default rkt-UUID)")
	fs.BoolVar(&o.Interactive, "interactive", false,
		"connect the pod's one app to the terminal, or to what standard input is")
	fs.Func("ipc", "parent: share shared memory, semaphores and queues with the host; auto and private, the default, "+
		"do not", func(s string) error {
		o.HostIPC = s == "parent"
		if !slices.Contains([]string{"auto", "private", "parent"}, s) {
			return fmt.Errorf("%q is not one of auto, private, parent", s)
		}
		return nil
	})
	fs.BoolVar(&o.Metadata, "mds-register", false, "register the pod with the metadata service (rkt-metadata), whose "+
		"address apps have in $AC_METADATA_URL")
	fs.BoolVar(&o.Strict, "strict-isolators", false, "refuse to start if a limit of an app can't be enforced")
	fs.Hidden("undo", func(s string) error { // for rkt run: what to remove if the pod does not start
		if undo = s; chain.Undo[s] == nil {
			return fmt.Errorf("%q is not one of network, pod", s)
		}
		return nil
	})
	fs.UUIDFile(&uuidFile)
	return func(ctx context.Context, p *cli.Process) error { return become(ctx, p, fs, o, uuidFile, undo) }
}

func become(ctx context.Context, p *cli.Process, fs *cli.Flags, o run.Options, uuidFile, undo string) error {
	g := fs.Global
	_, stop := cli.Interruptible(ctx)
	o.Leave = stop // from here on a signal is the pod's
	o.Stdin, o.Stdout, _ = p.Streams()
	o.Look, o.Flavors = cli.Sibling, flavor.All()
	o.Env, o.Log, o.Warn = p.Environ(), p.Log(), func(line string) { p.Say("%s", line) }
	o.Unfiltered, o.Writable = g.Insecure.Seccomp, g.Insecure.Paths
	found, err := p.OnePod(poddir.In(g.Dir), fs.Args(), uuidFile)
	if err != nil {
		return err
	}
	err = run.Become(found, o)
	if undo == "" {
		return err
	}
	done := make(chan error)
	// this thread is in a mount namespace of its own, others are not
	go func() { done <- chain.TakeBack(chain.Undo[undo], g.Dir, found.UUID, p.Stderr) }()
	return errors.Join(err, <-done)
}
