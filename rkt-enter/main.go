// Rkt-enter: run a command in a running pod.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/enter"
)

func main() { cli.Main(enter.Command) }
