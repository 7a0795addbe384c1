// Package catmanifest is the program rkt-cat-manifest.
package catmanifest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Command is rkt-cat-manifest.
var Command = &cli.Command{
	Name:     "rkt-cat-manifest",
	Summary:  "print a pod's manifest",
	Synopsis: []string{"[FLAGS] POD"},
	Text: `
Prints the appc manifest of a pod, with every app as it is run.

` + cli.PodOperand,
	Examples: []cli.Example{
		{Line: "rkt cat-manifest web | jq '.apps[].image.name'", Text: "Print the names of a pod's images."},
	},
	SeeAlso: []string{"rkt-list", "rkt-status", "rkt-image"},
	Setup:   setup,
}

func setup(flags *cli.Flags) cli.Run {
	var pretty bool
	var uuidFile string
	flags.BoolVar(&pretty, "pretty-print", true, "=false: print the JSON on one line")
	flags.UUIDFile(&uuidFile)
	return func(_ context.Context, p *cli.Process) error { return cat(p, flags, pretty, uuidFile) }
}

func cat(p *cli.Process, flags *cli.Flags, pretty bool, uuidFile string) error {
	found, err := p.OnePod(poddir.In(flags.Global.Dir), flags.Args(), uuidFile)
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
