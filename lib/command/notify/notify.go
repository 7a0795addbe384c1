// Package notify is the program rkt-notify.
package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/activation"
	"github.com/rkt-toolkit/rkt/lib/pod/notify"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/inside"
)

// Command is rkt-notify.
var Command = &cli.Command{
	Name:     "rkt-notify",
	Summary:  "pass an app's sd_notify(3) messages to the unit on the host",
	Synopsis: []string{""},
	Text: `
Passes what a pod's apps say by sd_notify(3) to the unit on the host. The pod's
own systemd starts it, with a socket for each app that does.`,
	Details: `
Not meant to be run by hand: the pod's own systemd starts it, for a pod with apps
that call sd_notify(3), in a unit with NotifyAccess=all. It is given a socket for
each such app, by socket activation under the app's name. The pod's systemd gets
all that an app says there; the host's gets its STATUS=, its WATCHDOG=1 (when
every such app of the pod has said it), WATCHDOG=trigger and EXTEND_TIMEOUT_USEC=,
at most ten times a second, and nothing else. It exits with the pod.`,
	SeeAlso: []string{"sd_notify", "rkt-run-prepared", "systemd.service"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	fs.NoDir = true
	return run
}

func run(_ context.Context, p *cli.Process) error {
	names := activation.Names(p.Getenv, p.PID)
	if len(names) == 0 || len(names) != strings.Count(p.Getenv("LISTEN_FDNAMES"), ":")+1 {
		return errors.New("no sockets were passed; the pod's systemd starts this program")
	}
	sockets := map[string]*net.UnixConn{}
	for i, name := range names {
		file := os.NewFile(uintptr(activation.First+i), name)
		conn, err := net.FilePacketConn(file)
		file.Close()
		if err != nil {
			return fmt.Errorf("socket of app %s: %w", name, err)
		}
		socket, ok := conn.(*net.UnixConn)
		if !ok {
			return fmt.Errorf("socket of app %s: not a unix socket", name)
		}
		sockets[name] = socket
	}
	return notify.Serve(sockets, inside.PodNotify, inside.HostNotify, stage1.ReadyFile)
}
