// Rkt-update: take new images into use, and go back if they are not good.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/update"
)

func main() { cli.Main(update.Command) }
