// Package kill is the program rkt-kill.
package kill

import (
	"context"
	"fmt"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/process"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
)

// Command is rkt-kill.
var Command = &cli.Command{
	Name:     "rkt-kill",
	Summary:  "send a signal to an app",
	Synopsis: []string{"[FLAGS] POD"},
	Text: `
Sends a signal to the main process of an app of a running pod. To shut a pod down
cleanly, or to kill all of it, see "rkt help stop".

` + cli.PodOperand,
	Examples: []cli.Example{
		{Line: "rkt kill --signal=HUP web", Text: "Have the app of the pod web read its configuration again."},
		{Line: "ExecReload=/usr/bin/rkt-kill --signal=HUP self", Text: "The same as a line of the service's unit."},
	},
	SeeAlso: []string{"rkt-stop", "rkt-enter"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	fs.Root = true
	var signal, app, uuidFile string
	fs.StringVar(&signal, "signal", "KILL", "SIGNAL: a name such as HUP or SIGHUP, or a number")
	fs.StringVar(&app, "app", "", "NAME: which app; needed in a pod of several")
	fs.UUIDFile(&uuidFile)
	return func(_ context.Context, p *cli.Process) error { return kill(p, fs, signal, app, uuidFile) }
}

func kill(p *cli.Process, fs *cli.Flags, signal, app, uuidFile string) error {
	which, err := process.ParseSignal(signal)
	if err != nil {
		return fmt.Errorf("--signal=%s: %w", signal, err)
	}
	found, err := p.OnePod(poddir.In(fs.Global.Dir), fs.Args(), uuidFile)
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
	pod, err := running.Of(found, flavor.All())
	if err != nil {
		return err
	}
	return pod.Signal(apps[i], which, p.Log())
}
