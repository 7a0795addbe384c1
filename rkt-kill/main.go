// Rkt-kill: send a signal to an app.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/kill"
)

func main() { cli.Main(kill.Command) }
