// Package volume is the program rkt-volume.
package volume

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/poddir/volume"
)

// Command is rkt-volume.
var Command = &cli.Command{
	Name:     "rkt-volume",
	Summary:  "list and remove named volumes",
	Synopsis: []string{"list [FLAGS]", "rm VOLUME ..."},
	Text: `
Lists named volumes and the pods that mount them, or removes some with all that is
in them. A volume that a prepared or running pod mounts is not removed. A volume
is made by the first "rkt run --volume=NAME:TARGET IMAGE".`,
	Details: `
The first rkt-prepare, or rkt run, with --volume=NAME:TARGET fills the volume with
what the image has at TARGET.`,
	Examples: []cli.Example{
		{Line: "rkt run --volume=data:/data docker://redis",
			Text: "Mount the volume data, which is made if it does not exist."},
		{Line: "rkt volume rm data", Text: "Remove it when no pod needs it."},
	},
	SeeAlso: []string{"rkt-prepare", "rkt-gc"},
	Verbs: []cli.Verb{
		{Name: "list", Summary: "list volumes, and the pods that mount them", Setup: setupList},
		{Name: "rm", Summary: "remove volumes with all that is in them", Setup: setupRemove},
	},
}

func setupList(fs *cli.Flags) cli.Run {
	fs.Root = true
	var format cli.Format
	var noLegend bool
	fs.FormatVar(&format, []volume.Volume(nil))
	fs.BoolVar(&noLegend, "no-legend", false, "omit the header line")
	return func(_ context.Context, p *cli.Process) error {
		if fs.NArg() > 0 {
			return fmt.Errorf("list: %q: takes no operands", fs.Arg(0))
		}
		return list(p, volume.In(fs.Global.Dir), format, noLegend)
	}
}

func setupRemove(fs *cli.Flags) cli.Run {
	fs.Root = true
	return func(_ context.Context, p *cli.Process) error { return remove(p, volume.In(fs.Global.Dir), fs.Args()) }
}

func list(p *cli.Process, volumes volume.Volumes, format cli.Format, noLegend bool) error {
	all, err := volumes.List()
	if err != nil {
		return err
	}
	if format.JSON() {
		return p.PrintFormat(all, format)
	}
	width := len("NAME")
	for _, v := range all {
		width = max(width, len(v.Name))
	}
	line := func(name, pods string) error {
		return p.PrintLine("%s", strings.TrimRight(fmt.Sprintf("%-*s  %s", width, name, pods), " "))
	}
	if !noLegend {
		if err := line("NAME", "PODS"); err != nil {
			return err
		}
	}
	for _, v := range all {
		var pods []string
		for _, uuid := range v.Pods {
			pods = append(pods, uuid[:8])
		}
		if err := line(v.Name, strings.Join(pods, ",")); err != nil {
			return err
		}
	}
	return nil
}

func remove(p *cli.Process, volumes volume.Volumes, names []string) error {
	if len(names) == 0 {
		return errors.New("rm: no volume given (--help shows how)")
	}
	var errs []error
	for _, name := range names {
		err := volumes.Remove(name)
		if err == nil {
			err = p.PrintLine("%s", name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
