// Toolkit: all programs in one file, which is called by the name of the one that it is to be.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/all"
)

func main() { cli.MainOf(all.Toolkit) }
