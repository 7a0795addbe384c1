// Rkt-attach: attach to a running app's terminal or pipes.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/attach"
)

func main() { cli.Main(attach.Command) }
