// Rkt-stage2: start, watch and stop the apps of a pod, from inside.
package main

import (
	"os"
	"runtime"

	"github.com/rkt-toolkit/rkt/lib/stage2"
)

// What a process may do is the first thread's, which /proc shows, and which no subcommand leaves.
func init() { runtime.LockOSThread() }

// It does not link lib/cli, and with it configuration and JSON: each start of an app waits for it.
func main() { os.Exit(stage2.Main(os.Args[1:], os.Stdout, os.Stderr)) }
