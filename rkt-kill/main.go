// Rkt-kill sends a signal to the main process of an app.
//
//	rkt-kill [--signal=SIGNAL] [--app=NAME] POD
//
// What the signal does is the app's affair: many read their configuration again at SIGHUP, so ExecReload=/usr/bin/rkt-kill --signal=HUP
// self reloads a service.
package main

import (
	"context"
	"fmt"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
)

const usage = `Usage: rkt-kill [FLAGS] POD

Sends a signal to the main process of an app of a running pod. To shut a pod down
cleanly, or to kill all of it, see "rkt help stop".

POD is a UUID, the unique start of one, @FILE, a pod's name, or self.

Flags:
  --signal=SIGNAL    a name such as HUP or SIGHUP, or a number (default KILL)
  --app=NAME         which app; needed in a pod of several
  --uuid-file=FILE   the pod whose UUID is in FILE

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST,
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help.
`

func main() { cli.Main("rkt-kill", usage, kill) }

func kill(_ context.Context, p *cli.Process) error {
	fs, g := p.RootFlags()
	var signal, app, uuidFile string
	fs.StringVar(&signal, "signal", "KILL", "")
	fs.StringVar(&app, "app", "", "")
	fs.StringVar(&uuidFile, "uuid-file", "", "")
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return err
	}
	which, err := running.ParseSignal(signal)
	if err != nil {
		return fmt.Errorf("--signal=%s: %w", signal, err)
	}
	found, err := p.OnePod(poddir.In(g.Dir), fs.Args(), uuidFile)
	if err != nil {
		return err
	}
	apps, err := found.Apps()
	if err != nil {
		return err
	}
	i, err := found.ChooseApp(apps, app)
	if err != nil {
		return err
	}
	return running.Signal(found, apps[i], which, p.Log())
}
