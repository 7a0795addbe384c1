// Rkt-status: show the state of a pod, or wait until it is ready or has exited.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/status"
)

func main() { cli.Main(status.Command) }
