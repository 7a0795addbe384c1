// Rkt-cat-manifest prints a pod's manifest (appc spec, pods.md).
//
//	rkt-cat-manifest [--pretty-print=false] POD
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

const usage = `Usage: rkt-cat-manifest [FLAGS] POD

Prints the appc manifest of a pod, with every app as it is run.

POD is a UUID, the unique start of one, @FILE, a pod's name, or self.

Flags:
  --pretty-print=false   on one line
  --uuid-file=FILE       the pod whose UUID is in FILE

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST,
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help.
`

func main() { cli.Main("rkt-cat-manifest", usage, cat) }

func cat(_ context.Context, p *cli.Process) error {
	flags, g := p.Flags()
	var pretty bool
	var uuidFile string
	flags.BoolVar(&pretty, "pretty-print", true, "")
	flags.StringVar(&uuidFile, "uuid-file", "", "")
	if err := p.ParseAnywhere(flags, g, p.Args); err != nil {
		return err
	}
	found, err := p.OnePod(poddir.In(g.Dir), flags.Args(), uuidFile)
	if err != nil {
		return err
	}
	text, err := found.ReadFile(poddir.ManifestFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pod %s: has no manifest; it was never prepared to the end", found.UUID)
	}
	if err != nil {
		return err
	}
	if err := p.PrintJSON(json.RawMessage(text), pretty); err != nil {
		return fmt.Errorf("pod %s: manifest: %w", found.UUID, err)
	}
	return nil
}
