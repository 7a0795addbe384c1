// Rkt-trust: trust a key that images are signed with.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/trust"
)

func main() { cli.Main(trust.Command) }
