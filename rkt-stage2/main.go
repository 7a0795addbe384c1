// Rkt-stage2: start, watch and stop the apps of a pod, from inside.
package main

import (
	"os"

	"github.com/rkt-toolkit/rkt/lib/stage2"
)

// It does not link lib/cli, and with it configuration and JSON: each start of an app waits for it.
func main() { os.Exit(stage2.Main(os.Args[1:], os.Stdout, os.Stderr)) }
