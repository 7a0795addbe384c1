// Rkt-logs shows what the apps of a pod have printed.
//
//	rkt-logs [--app=NAME] [--follow] [--lines=N] [--output=FORMAT] POD
//
// It runs journalctl(1) on the pod's own journal, which is there until the pod is removed. With --debug it prints the command line.
package main

import (
	"context"
	"errors"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/printable"
	"github.com/rkt-toolkit/rkt/lib/pod/logs"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

const usage = `Usage: rkt-logs [FLAGS] POD

Shows what the apps of a pod have printed, and what they have sent to the
journal, with journalctl. The pod may run or have exited; the journal is removed
with the pod.

POD is a UUID, the unique start of one, @FILE, a pod's name, or self.

Flags:
  --app=NAME         of that app alone
  -f, --follow       go on until the pod has exited
  -n, --lines=N      the last N lines only, and with --follow those that come
  --output=FORMAT    a format of journalctl, as cat, short-iso or json
  --uuid-file=FILE   the pod whose UUID is in FILE

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST,
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help.
`

func main() { cli.Main("rkt-logs", usage, show) }

func show(ctx context.Context, p *cli.Process) error {
	fs, g := p.RootFlags()
	o := logs.Options{Log: p.Log(), Color: isTerminal(1)}
	var uuidFile string
	fs.StringVar(&o.App, "app", "", "")
	fs.BoolVar(&o.Follow, "follow", false, "")
	fs.BoolVar(&o.Follow, "f", false, "")
	fs.StringVar(&o.Lines, "lines", "", "")
	fs.StringVar(&o.Lines, "n", "", "")
	fs.StringVar(&o.Output, "output", "", "")
	fs.StringVar(&uuidFile, "uuid-file", "", "")
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return err
	}
	if err := o.Check(); err != nil {
		return err
	}
	found, err := p.OnePod(poddir.In(g.Dir), fs.Args(), uuidFile)
	if err != nil {
		return err
	}
	complaints := printable.NewTerminal(p.Stderr) // they have names of files that the pod's systemd has written
	out := p.Stdout
	if !o.Color {
		return errors.Join(logs.Show(ctx, found, o, out, complaints), complaints.Close())
	}
	terminal := printable.NewTerminal(out)
	return errors.Join(logs.Show(ctx, found, o, terminal, complaints), complaints.Close(), terminal.Close())
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}
