// Rkt-list: list pods.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/list"
)

func main() { cli.Main(list.Command) }
