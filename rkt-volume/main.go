// Rkt-volume: list and remove named volumes.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/volume"
)

func main() { cli.Main(volume.Command) }
