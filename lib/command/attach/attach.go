// Package attach is the program rkt-attach.
package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod/attach"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
)

// Command is rkt-attach.
var Command = &cli.Command{
	Name:     "rkt-attach",
	Summary:  "attach to a running app's terminal or pipes",
	Synopsis: []string{"[FLAGS] POD"},
	Text: `
Connects standard input, output and error with an app of a running pod that was
prepared with --stdin, --stdout or --stderr being stream or tty. Exits with the app.
^P ^Q typed at a terminal detaches from an app's terminal, and ^C from its pipes.

` + cli.PodOperand,
	Details: `
The app must have been given something to attach to when its pod was prepared:
--stdin, --stdout and --stderr of rkt-prepare, each a pipe (stream) or a terminal
of the app's own (tty). What it prints there does not go to the journal, and is
lost while nobody is attached. Several may be attached at a time: each gets all
output, and the app reads what any of them types.

At a terminal of the app's, ^C goes to the app; otherwise it ends rkt-attach, and
the app goes on. When the app exits, rkt-attach exits with 0. The end of standard
input closes the app's only with --close-stdin: others could be attached.`,
	Examples: []cli.Example{
		{Line: "rkt run --detach --pod-name=shell docker://busybox --stdin=tty --stdout=tty --exec=/bin/sh",
			Text: "Start an app with a terminal."},
		{Line: "rkt attach shell", Text: "Attach to it."},
	},
	SeeAlso: []string{"rkt-enter", "rkt-logs", "rkt-prepare"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	fs.Root = true
	var client attach.Client
	var uuidFile, serve string
	fs.StringVar(&client.App, "app", "", "NAME: which app; needed in a pod of several")
	fs.StringVar(&client.Mode, "mode", "auto", "MODE: auto (default): attach to all there is; list: only print what "+
		"there is; tty, tty-in, tty-out: the terminal, both ways or one; or some of stdin,stdout,stderr: pipes")
	fs.BoolVar(&client.CloseWith, "close-stdin", false, "close the app's standard input when ours ends")
	fs.UUIDFile(&uuidFile)
	fs.StringVar(&serve, "serve", "", "APP: used by the pod's systemd: pass on what an app reads and prints")
	return func(_ context.Context, p *cli.Process) error { return run(p, fs, client, uuidFile, serve) }
}

func run(p *cli.Process, fs *cli.Flags, client attach.Client, uuidFile, serve string) error {
	client.Stdin, client.Stdout, client.Stderr = p.Streams()
	if serve != "" {
		streams := map[string]stage1.Stream{}
		for _, operand := range fs.Args() {
			name, value, _ := strings.Cut(operand, "=")
			streams[name] = stage1.Stream(value)
		}
		return attach.Serve(filepath.Join(stage1.AttachDir, serve), streams, getenv(p), p.PID)
	}
	found, err := p.OnePod(poddir.In(fs.Global.Dir), fs.Args(), uuidFile)
	if err != nil {
		return err
	}
	pod, err := running.Of(found, flavor.All())
	if err != nil {
		return err
	}
	client.Log = p.Log()
	if client.Mode == "list" {
		return list(p.Stdout, pod, client.App)
	}
	err = client.Attach(pod)
	if signal, ok := errors.AsType[attach.Signaled](err); ok {
		return cli.ExitStatus(128 + int(signal))
	}
	if errors.Is(err, attach.ErrDetached) {
		_, err = fmt.Fprintln(p.Stderr)
		p.Say("detached from pod %s", found.UUID)
	}
	return err
}

// list prints what an app has to attach to.
func list(to io.Writer, p running.Pod, app string) error {
	if _, err := p.Leader(); err != nil {
		return err
	}
	endpoints, err := attach.List(p.Pod, app)
	if err != nil {
		return err
	}
	_, err = io.WriteString(to, strings.Join(slices.Concat(endpoints, []string{""}), "\n"))
	return err
}

// getenv is the environment, in which a PID 1 that is no systemd says $LISTEN_FDS without
// $LISTEN_PID, which it does not know.
func getenv(p *cli.Process) func(string) string {
	return func(name string) string {
		if value := p.Getenv(name); value != "" || name != "LISTEN_PID" || p.Getenv("LISTEN_FDS") == "" {
			return value
		}
		return strconv.Itoa(p.PID)
	}
}
