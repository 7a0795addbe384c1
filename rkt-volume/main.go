// Rkt-volume lists and removes named volumes.
//
//	rkt-volume list
//	rkt-volume rm NAME …
//
// A named volume is made by the first rkt-prepare, or rkt run, with --volume=NAME:TARGET, and filled with what the image has there.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/poddir/volume"
)

const usage = `Usage: rkt-volume list [FLAGS]
       rkt-volume rm NAME ...

Lists named volumes and the pods that mount them, or removes some with all that is
in them. A volume that a prepared or running pod mounts is not removed. A volume
is made by the first "rkt run --volume=NAME:TARGET IMAGE".

Flags:
  --format=FORMAT    list: text (default), json, or json-pretty
  --no-legend        list: omit the header line

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST,
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help.
`

func main() { cli.Main("rkt-volume", usage, run) }

func run(_ context.Context, p *cli.Process) error {
	fs, g := p.RootFlags()
	var format string
	var noLegend bool
	fs.StringVar(&format, "format", "text", "")
	fs.BoolVar(&noLegend, "no-legend", false, "")
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return err
	}
	volumes := volume.In(g.Dir)
	switch verb := fs.Arg(0); verb {
	case "list":
		if fs.NArg() > 1 {
			return fmt.Errorf("list: %q: takes no operands", fs.Arg(1))
		}
		return list(p, volumes, format, noLegend)
	case "rm":
		return remove(p, volumes, fs.Args()[1:])
	case "":
		return errors.New("list or rm? (--help tells more)")
	default:
		return fmt.Errorf("%q is none of list, rm", verb)
	}
}

func list(p *cli.Process, volumes volume.Volumes, format string, noLegend bool) error {
	all, err := volumes.List()
	if err != nil {
		return err
	}
	switch format {
	case "json", "json-pretty":
		return p.PrintJSON(all, format == "json-pretty")
	case "text":
	default:
		return fmt.Errorf("--format=%s: is none of text, json, json-pretty", format)
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
