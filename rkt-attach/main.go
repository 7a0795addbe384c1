// Rkt-attach connects the terminal, or standard input and output, with an app that runs in a pod.
//
//	rkt-attach [FLAGS] POD
//
// The app has to have been given something to attach to when its pod was prepared: --stdin, --stdout and --stderr of rkt-prepare, each
// a pipe (stream) or a terminal of the app's own (tty). What it prints there is nowhere else, neither in the journal; what it prints while
// nobody is attached is lost. Several may be attached at a time: each gets all output, and the app reads what any of them types.
//
// At a terminal, ^P ^Q detaches from one of the app's; ^C is the app's then, and otherwise ends rkt-attach. The app goes on. When the app
// ends, so does rkt-attach, with 0. The end of standard input is not the app's, who else could attach, unless --close-stdin says so.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod/attach"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
)

const usage = `Usage: rkt-attach [FLAGS] POD

Connects standard input, output and error with an app of a running pod that was
prepared with --stdin, --stdout or --stderr being stream or tty. Ends with the app.
^P ^Q typed at a terminal detaches from an app's terminal, and ^C from its pipes.

POD is a UUID, the unique start of one, @FILE, a pod's name, or self.

Flags:
  --app=NAME         which app; needed in a pod of several
  --mode=MODE        auto (default): to all there is; list: only print what there
                     is; tty, tty-in, tty-out: the terminal, both ways or one; or
                     some of stdin,stdout,stderr: pipes
  --close-stdin      the end of standard input is that of the app's
  --uuid-file=FILE   the pod whose UUID is in FILE

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST,
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help.
`

func main() { cli.Main("rkt-attach", usage, run) }

func run(_ context.Context, p *cli.Process) error {
	fs, g := p.RootFlags()
	client := attach.Client{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	var uuidFile, serve string
	fs.StringVar(&client.App, "app", "", "")
	fs.StringVar(&client.Mode, "mode", "auto", "")
	fs.BoolVar(&client.CloseWith, "close-stdin", false, "")
	fs.StringVar(&uuidFile, "uuid-file", "", "")
	fs.StringVar(&serve, "serve", "", "") // in a pod: docs/internals.md
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return err
	}
	if serve != "" {
		streams := map[string]stage1.Stream{}
		for _, operand := range fs.Args() {
			name, value, _ := strings.Cut(operand, "=")
			streams[name] = stage1.Stream(value)
		}
		return attach.Serve(filepath.Join(stage1.AttachDir, serve), streams, p.Getenv, p.PID)
	}
	found, err := p.OnePod(poddir.In(g.Dir), fs.Args(), uuidFile)
	if err != nil {
		return err
	}
	client.Log = p.Log()
	if client.Mode == "list" {
		return list(p.Stdout, found, client.App)
	}
	err = client.Attach(found)
	if errors.Is(err, attach.ErrDetached) {
		_, err = fmt.Fprintln(p.Stderr)
		p.Say("detached from pod %s", found.UUID)
	}
	return err
}

// list prints what an app has to attach to.
func list(to io.Writer, p *poddir.Pod, app string) error {
	if _, err := running.Leader(p); err != nil {
		return err
	}
	endpoints, err := attach.List(p, app)
	if err != nil {
		return err
	}
	_, err = io.WriteString(to, strings.Join(slices.Concat(endpoints, []string{""}), "\n"))
	return err
}
