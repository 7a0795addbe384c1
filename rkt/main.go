// Rkt: run application containers as systemd services.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/rkt"
)

func main() { cli.Main(rkt.Command) }
