// Package export is the program rkt-export.
package export

import (
	"context"
	"errors"
	"io"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/pod/export"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Command is rkt-export.
var Command = &cli.Command{
	Name:     "rkt-export",
	Summary:  "make an image of an app of an exited pod",
	Synopsis: []string{"[FLAGS] POD FILE"},
	Text: `
Writes an app of an exited pod to FILE, or -, as an ACI: the app's root as the app
has left it, without volumes.

` + cli.PodOperand,
	Details: `
The image is an uncompressed ACI: the root of the app, without volumes, and the
manifest of the app's image. FILE is there whole or not at all.`,
	Examples: []cli.Example{
		{Line: "rkt export --app=db web db.aci", Text: "Write the app db of the pod web to a file."},
	},
	SeeAlso: []string{"rkt-image", "rkt-cp", "rkt-fetch"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	var app, uuidFile string
	var overwrite bool
	fs.StringVar(&app, "app", "", "NAME: which app; needed in a pod of several")
	fs.BoolVar(&overwrite, "overwrite", false, "replace FILE")
	fs.UUIDFile(&uuidFile)
	return func(ctx context.Context, p *cli.Process) error { return run(ctx, p, fs, app, uuidFile, overwrite) }
}

func run(ctx context.Context, p *cli.Process, fs *cli.Flags, app, uuidFile string, overwrite bool) error {
	g := fs.Global
	operands := fs.Args()
	if len(operands) == 0 || operands[len(operands)-1] == "" {
		return errors.New("a pod and a file, please (--help shows how)")
	}
	to := operands[len(operands)-1]
	found, err := p.OnePod(poddir.In(g.Dir), operands[:len(operands)-1], uuidFile)
	if err != nil {
		return err
	}
	s, err := store.Open(g.Dir)
	if err != nil {
		return err
	}
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	write := func(w io.Writer) error { return export.App(ctx, s, found, app, w) }
	if to == "-" {
		return write(p.Stdout)
	}
	return export.File(to, overwrite, write)
}
