// Rkt-export makes an image of an app of a pod that has ended.
//
//	rkt-export [--app=NAME] [--overwrite] POD FILE|-
//
// The image is an uncompressed ACI: the root of the app as the app has left it, without volumes, and the manifest of the app's image. It is
// there whole or not at all.
package main

import (
	"context"
	"errors"
	"io"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/pod/export"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

const usage = `Usage: rkt-export [FLAGS] POD FILE

Writes an app of a pod that has ended to FILE, or -, as an ACI: the app's root as
it has left it, without volumes.

POD is a UUID, the unique start of one, @FILE, a pod's name, or self.

Flags:
  --app=NAME         which app; needed in a pod of several
  --overwrite        replace FILE
  --uuid-file=FILE   the pod whose UUID is in FILE

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST,
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help.
`

func main() { cli.Main("rkt-export", usage, run) }

func run(ctx context.Context, p *cli.Process) error {
	fs, g := p.Flags()
	var app, uuidFile string
	var overwrite bool
	fs.StringVar(&app, "app", "", "")
	fs.BoolVar(&overwrite, "overwrite", false, "")
	fs.StringVar(&uuidFile, "uuid-file", "", "")
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return err
	}
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
