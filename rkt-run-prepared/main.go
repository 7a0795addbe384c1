// Rkt-run-prepared: run a prepared pod.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/runprepared"
)

func main() { cli.Main(runprepared.Command) }
