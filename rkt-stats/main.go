// Rkt-stats: show what running pods and their apps use.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/stats"
)

func main() { cli.Main(stats.Command) }
