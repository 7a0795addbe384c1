package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image"
)

// importFile becomes rkt-fetch, which alone reads what nobody vouches for.
func importFile(_ context.Context, p *cli.Process) error {
	fs, g := p.Flags()
	var signature string
	fs.StringVar(&signature, "signature", "", "")
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return err
	}
	if fs.NArg() != 1 || fs.Arg(0) == "" {
		return errors.New("import: one file, or - for standard input, please (--help shows how)")
	}
	file := fs.Arg(0)
	if file != "-" {
		ref, err := image.ParseReference(file)
		if err != nil || ref.Kind == image.Appc || ref.Kind == image.ID { // a path that looks like a name
			file = "./" + file
		} else if !ref.Local() {
			return fmt.Errorf("import: %q is not on this machine; rkt fetch fetches it", file)
		}
	}
	fetch, err := cli.Sibling("rkt-fetch")
	if err != nil {
		return err
	}
	args := append(g.Args(), "--full")
	if signature != "" {
		args = append(args, "--signature="+signature)
	}
	return cli.Exec(fetch, slices.Concat([]string{fetch}, args, []string{"--", file}), os.Environ())
}
