// Rkt-stop: shut running pods down.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/stop"
)

func main() { cli.Main(stop.Command) }
