// Rkt-cp: copy files between the host and an app.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/cp"
)

func main() { cli.Main(cp.Command) }
