// Rkt-unit: print the unit file of a service that runs a pod.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/unit"
)

func main() { cli.Main(unit.Command) }
