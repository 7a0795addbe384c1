// Rkt-net: set up, check and remove the network of a pod.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/net"
)

func main() { cli.Main(net.Command) }
