// Rkt-doctor: look at the host for what keeps pods from running well.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/doctor"
)

func main() { cli.Main(doctor.Command) }
