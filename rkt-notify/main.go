// Rkt-notify: pass an app's sd_notify(3) messages to the unit on the host.
package main

import (
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/command/notify"
)

func main() { cli.Main(notify.Command) }
