// Rkt-gc: remove pods that have exited, and what killed programs left behind.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/gc"
)

func main() { cli.Main(gc.Command) }
