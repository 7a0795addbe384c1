package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image"
)

// importFile becomes rkt-fetch, which alone reads what nobody vouches for.
func importFile(_ context.Context, p *cli.Process) error {
	fs, g := p.Flags()
	if err := p.Parse(fs, g, p.Args); err != nil {
		return err
	}
	operands := fs.Args()
	if len(operands) == 0 || operands[0] == "" || len(operands) > 1 && !strings.HasPrefix(operands[1], "--signature") {
		return errors.New("import: one file, or - for standard input, please (--help shows how)")
	}
	if operands[0] != "-" {
		ref, err := image.ParseReference(operands[0])
		if err != nil || ref.Kind == image.Appc || ref.Kind == image.ID { // a path that looks like a name
			operands[0] = "./" + operands[0]
		} else if !ref.Local() {
			return fmt.Errorf("import: %q is not on this machine; rkt fetch fetches it", operands[0])
		}
	}
	fetch, err := cli.Sibling("rkt-fetch")
	if err != nil {
		return err
	}
	return cli.Exec(fetch, append(append([]string{fetch}, append(g.Args(), "--full")...), operands...), os.Environ())
}
