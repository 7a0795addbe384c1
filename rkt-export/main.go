// Rkt-export: make an image of an app of an exited pod.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/export"
)

func main() { cli.Main(export.Command) }
