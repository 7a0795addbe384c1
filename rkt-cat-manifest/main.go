// Rkt-cat-manifest: print a pod's manifest.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/catmanifest"
)

func main() { cli.Main(catmanifest.Command) }
