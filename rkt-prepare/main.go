// Rkt-prepare: prepare a pod from images.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/prepare"
)

func main() { cli.Main(prepare.Command) }
