// Rkt-stop asks running pods to end.
//
//	rkt-stop [--force] POD …
//
// The pod's systemd stops the apps in order, each with its stop signal. It does not wait for the end: rkt-status --wait does. A pod that
// does not run is no error.
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod"
	"github.com/rkt-toolkit/rkt/lib/running"
)

const usage = `Usage: rkt-stop [FLAGS] POD ...

Asks running pods to end, in order, and prints their UUIDs. Does not wait for it.
A pod that has ended is no error.

POD is a UUID, the unique start of one, @FILE, a pod's name, or self.

Flags:
  --force            kill the pod at once
  --uuid-file=FILE   the pod whose UUID is in FILE

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST,
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help.
`

func main() { cli.Main("rkt-stop", usage, stop) }

func stop(_ context.Context, p *cli.Process) error {
	fs, g := p.Flags()
	var force bool
	var uuidFile string
	fs.BoolVar(&force, "force", false, "")
	fs.StringVar(&uuidFile, "uuid-file", "", "")
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return err
	}
	operands := fs.Args()
	if uuidFile != "" {
		operands = append(operands, "@"+uuidFile)
	}
	if len(operands) == 0 {
		return errors.New("no pod given (--help shows how)")
	}
	var errs []error
	for _, operand := range operands {
		found, err := pod.In(g.Dir).Find(operand, pod.Self(p.Getenv, p.PID))
		if err == nil {
			err = running.Stop(found, force, p.Log())
		}
		if err == nil {
			_, err = fmt.Fprintf(p.Stdout, "%q\n", found.UUID)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
