// Rkt-run-prepared becomes a prepared pod.
//
//	rkt-run-prepared [FLAGS] POD
//
// It makes a mount namespace, mounts the apps' file systems there, and executes systemd-nspawn in its own place: the process that
// started it has the pod itself as its child, and nothing of the toolkit stays in memory. The pod's lock is inherited, so that the
// pod counts as running for exactly as long as it does.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod/run"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

const usage = `Usage: rkt-run-prepared [FLAGS] POD

Becomes a prepared pod: the process turns into systemd-nspawn, which runs the
pod's own systemd, which runs the apps. Its exit status is that of the first app
that failed, 128+n for an app that died of signal n, or 0.

POD is a UUID, the unique start of one, @FILE, a pod's name, or self.
The pod needs a network first: see rkt-net.

Flags:
  --hostname=NAME    the pod's host name (default rkt-UUID)
  --interactive      give the pod's one app the terminal, or what standard input
                     holds
  --ipc=parent       share shared memory, semaphores and queues with the host;
                     auto and private, the default, do not
  --mds-register     tell the apps of the metadata service (rkt-metadata), by
                     $AC_METADATA_URL
  --undo=network, --undo=pod
                     if the pod does not start, take its network back, or remove
                     it: rkt run wants that
  --strict-isolators refuse to start if a limit of an app can't be enforced
  --uuid-file=FILE   the pod whose UUID is in FILE

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST,
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help.
`

func main() { cli.Main("rkt-run-prepared", usage, become) }

func become(ctx context.Context, p *cli.Process) error {
	_, stop := cli.Interruptible(ctx)
	fs, g := p.RootFlags()
	o := run.Options{Env: os.Environ(), Log: p.Log(), Warn: func(line string) { p.Say("%s", line) }}
	var uuidFile, undo string
	o.Leave = stop // from here on a signal is the pod's
	fs.StringVar(&o.Hostname, "hostname", "", "")
	fs.BoolVar(&o.Interactive, "interactive", false, "")
	fs.BoolVar(&o.Metadata, "mds-register", false, "")
	fs.Func("ipc", "", func(s string) error {
		o.HostIPC = s == "parent"
		if !slices.Contains([]string{"auto", "private", "parent"}, s) {
			return fmt.Errorf("%q is none of auto, private, parent", s)
		}
		return nil
	})
	fs.StringVar(&uuidFile, "uuid-file", "", "")
	fs.BoolVar(&o.Strict, "strict-isolators", false, "")
	fs.Func("undo", "", func(s string) error {
		if undo = s; run.Undo[s] == nil {
			return fmt.Errorf("%q is none of network, pod", s)
		}
		return nil
	})
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return err
	}
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
	go func() { done <- run.TakeBack(run.Undo[undo], g.Dir, found.UUID, p.Stderr) }() // this thread is in a mount namespace of its own, others are not
	return errors.Join(err, <-done)
}
