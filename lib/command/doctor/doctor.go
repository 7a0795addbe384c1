// Package doctor is the program rkt-doctor.
package doctor

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/pod/doctor"
)

// Command is rkt-doctor.
var Command = &cli.Command{
	Name:     "rkt-doctor",
	Summary:  "look at the host for what keeps pods from running well",
	Synopsis: []string{"[FLAGS] [CHECK ...]"},
	Text: `
Checks systemd, the kernel, the data directory, networks and the upkeep of this host,
and prints a line for each: whether it is ok, what is wrong and what that means, and
what to type. It changes nothing.

A warning means that pods run, but something is missing or will go wrong; a fault, that
pods do not run, or not safely. With CHECK, the name in the first column, only those
checks are done.`,
	Exit: "0 if there is no fault, and with --strict no warning either; else 1. 254 for an error of rkt's own.",
	Examples: []cli.Example{
		{Line: "rkt doctor", Text: "Check this host."},
		{Line: "rkt doctor --quiet --strict", Text: "Print and fail on warnings and faults only, for a script."},
	},
	SeeAlso: []string{"rkt-gc", "rkt-config"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	fs.Root = true
	var format cli.Format
	var quiet, strict bool
	fs.FormatVar(&format, []doctor.Finding(nil))
	fs.BoolVar(&quiet, "quiet", false, "print only warnings and faults")
	fs.BoolVar(&strict, "strict", false, "exit with 1 on a warning, too")
	return func(ctx context.Context, p *cli.Process) error {
		for _, name := range fs.Args() {
			if !slices.Contains(doctor.Names(), name) {
				return fmt.Errorf("%q: unknown check; there are %s", name, strings.Join(doctor.Names(), ", "))
			}
		}
		program, err := cli.Sibling("rkt-net")
		if err != nil {
			return err
		}
		found := doctor.Look(ctx, doctor.Host{Data: fs.Global.Dir, Plugins: network.PluginDirs(filepath.Dir(program))},
			fs.Args()...)
		worst := doctor.Worst(found)
		if quiet {
			found = slices.DeleteFunc(found, func(f doctor.Finding) bool { return f.Verdict == doctor.OK })
		}
		if err := print(p, found, format); err != nil {
			return err
		}
		if worst == doctor.Fault || strict && worst == doctor.Warning {
			return cli.ExitStatus(1)
		}
		return nil
	}
}

func print(p *cli.Process, found []doctor.Finding, format cli.Format) error {
	if format.JSON() {
		if found == nil {
			found = []doctor.Finding{}
		}
		return p.PrintFormat(found, format)
	}
	for _, f := range found {
		line := fmt.Sprintf("%-12s %-8s %s", f.Check, f.Verdict, f.Text)
		if f.Advice != "" {
			line += "; fix: " + f.Advice
		}
		if err := p.PrintLine("%s", line); err != nil {
			return err
		}
	}
	return nil
}
