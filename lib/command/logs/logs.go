// Package logs is the program rkt-logs.
package logs

import (
	"context"
	"errors"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/printable"
	"github.com/rkt-toolkit/rkt/lib/pod/logs"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
	"golang.org/x/sys/unix"
)

// Command is rkt-logs.
var Command = &cli.Command{
	Name:     "rkt-logs",
	Summary:  "show what apps have printed",
	Synopsis: []string{"[FLAGS] POD"},
	Text: `
Shows what the apps of a pod have printed, and what they have sent to the
journal, with journalctl. The pod may run or have exited; the journal is removed
with the pod.

` + cli.PodOperand,
	Details: `
It runs journalctl(1) on the pod's own journal. With --debug it prints the command
line.`,
	Examples: []cli.Example{
		{Line: "rkt logs -f -n 20 web",
			Text: "Show the last 20 lines of a pod, and those that come until the pod has exited."},
	},
	SeeAlso: []string{"journalctl", "rkt-attach", "rkt-list"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	fs.Root = true
	var o logs.Options
	var uuidFile string
	fs.StringVar(&o.App, "app", "", "NAME: of that app alone")
	for _, name := range []string{"follow", "f"} {
		fs.BoolVar(&o.Follow, name, false, "go on until the pod has exited")
	}
	for _, name := range []string{"lines", "n"} {
		fs.StringVar(&o.Lines, name, "", "N: the last N lines only, and with --follow those that come")
	}
	fs.StringVar(&o.Output, "output", "", "FORMAT: a format of journalctl, such as cat, short-iso or json")
	fs.UUIDFile(&uuidFile)
	return func(ctx context.Context, p *cli.Process) error { return show(ctx, p, fs, o, uuidFile) }
}

func show(ctx context.Context, p *cli.Process, fs *cli.Flags, o logs.Options, uuidFile string) error {
	o.Log, o.Color, o.Env, o.Flavors = p.Log(), isTerminal(1), p.Environ(), flavor.All()
	if err := o.Check(); err != nil {
		return err
	}
	found, err := p.OnePod(poddir.In(fs.Global.Dir), fs.Args(), uuidFile)
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
