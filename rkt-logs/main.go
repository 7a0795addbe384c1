// Rkt-logs: show what apps have printed.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/logs"
)

func main() { cli.Main(logs.Command) }
