package image

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image"
)

func setupImport(fs *cli.Flags) cli.Run {
	var signature string
	fs.StringVar(&signature, "signature", "", "FILE: the image's signature")
	return func(_ context.Context, p *cli.Process) error { return importFile(p, fs, signature) }
}

// importFile becomes rkt-fetch, which alone reads what nobody vouches for.
func importFile(p *cli.Process, fs *cli.Flags, signature string) error {
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
	args := append(fs.Global.Args(), "--full")
	if signature != "" {
		args = append(args, "--signature="+signature)
	}
	return cli.Exec(fetch, slices.Concat([]string{fetch}, args, []string{"--", file}), p.Environ())
}
