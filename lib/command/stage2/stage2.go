// Package stage2 is the program rkt-stage2 as a Command, for its manual page and for a binary that
// has all programs. The program itself does without lib/cli.
package stage2

import (
	"context"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/stage2"
)

// Command is rkt-stage2.
var Command = &cli.Command{
	Name:     "rkt-stage2",
	Summary:  "start, watch and stop the apps of a pod, from inside",
	Synopsis: []string{"app NAME [HANDLER]", "init FILE ARG...", "ready APP...", "SUBCOMMAND [ARG...]"},
	Text:     stage2.Usage[strings.Index(stage2.Usage, "\n\n"):],
	Details: `
Not meant to be run by hand: the pod's systemd starts it, as /rkt/stage2. "app" gives
the process the root, user and limits that the app's configuration says and executes
the app's program, or that of its handler. "ready" tells the host that all apps have
been executed.`,
	SeeAlso: []string{"rkt-run-prepared", "rkt-enter"},
	Setup:   func(*cli.Flags) cli.Run { return nil },
	First: func(_ context.Context, p *cli.Process) (bool, error) {
		if status := stage2.Main(p.Args, p.Stdout, p.Stderr); status != 0 {
			return true, cli.ExitStatus(status)
		}
		return true, nil
	},
}
