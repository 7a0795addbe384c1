// Rkt-config: print the configuration.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/config"
)

func main() { cli.Main(config.Command) }
