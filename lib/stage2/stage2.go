// Package stage2 is what rkt-stage2 does: each subcommand does one thing that a pod needs, so that
// no shell and no program of the host's but systemd is started in a pod. Each start of an app waits
// for this program: it links as little as it can, and is no cli.Command.
package stage2

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/rkt-toolkit/rkt/lib/stage1/host/health"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/ready"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/recorder"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/launcher"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/pid1"
	"github.com/rkt-toolkit/rkt/lib/stage2/app"
	"github.com/rkt-toolkit/rkt/lib/stage2/reaper"
)

// Usage is the text of --help.
const Usage = `Usage: rkt-stage2 app NAME [HANDLER]
       rkt-stage2 init FILE ARG...
       rkt-stage2 ready APP...
       rkt-stage2 SUBCOMMAND [ARG...]

Used by the systemd of a pod; not meant to be run by hand. To run a command in a
pod: rkt enter.

app        become the app NAME, or run one of its handlers: pre-start, post-stop,
           health
init       run the program FILE with these arguments, and do a PID 1's work for it
ready      tell the host that all apps have been executed
ended      record how an app has ended; exits with the pod's status
asked      note that the pod is asked to stop
stopped    note that it has stopped; exits with the pod's status
healthy    note that an app has passed a health check
unhealthy  count the health checks that an app fails, and do something about it
started    note that an app has passed a check of its start
unstarted  count those that it fails
streams    pass on what the apps print, to the journal or the console
launch     make the namespaces of a pod of flavor init, and wait for its PID 1
pod        be the PID 1 of such a pod
`

// failed is rkt's own exit status.
const failed = 254

// commands are the subcommands. Each start of an app waits for this program: it links as little as
// it can.
var commands = map[string]func(args []string) (status int, err error){
	"app":       runApp,
	"init":      runInit,
	"told":      runTold,
	"ready":     runReady,
	"ended":     record(recorder.Ended),
	"asked":     plain(recorder.Asked),
	"stopped":   record(recorder.Stopped),
	"healthy":   plain(health.Healthy),
	"unhealthy": plain(health.Unhealthy),
	"started":   plain(health.Started),
	"unstarted": plain(health.Unstarted),
	"streams":   plain(streams.Serve),

	launcher.Command: own(launcher.Run),
	pid1.Command:     own(pid1.Run),
}

// plain is a subcommand whose status says only whether it has failed.
func plain(f func(args []string) error) func([]string) (int, error) {
	return func(args []string) (int, error) {
		if err := f(args); err != nil {
			return failed, err
		}
		return 0, nil
	}
}

// own is a subcommand that returns its status, or fails.
func own(f func(args []string) (int, error)) func([]string) (int, error) {
	return func(args []string) (int, error) {
		status, err := f(args)
		if err != nil {
			return failed, err
		}
		return status, nil
	}
}

// record is a subcommand whose status is that of a failed app, which needs no words.
func record(f func(args []string) error) func([]string) (int, error) {
	return func(args []string) (int, error) {
		status, err := plain(f)(args)
		var app recorder.Failed
		if errors.As(err, &app) {
			return app.Status, nil
		}
		return status, err
	}
}

func runApp(args []string) (int, error) {
	if len(args) < 1 || len(args) > 2 {
		return failed, fmt.Errorf("app: takes the name of an app and at most one handler")
	}
	if len(args) == 1 {
		streams.NotePID(args[0])
	}
	if os.Getenv("LISTEN_FDS") != "" && os.Getenv("LISTEN_PID") == "" { // said by a PID 1 that is no systemd
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	return app.Run(args[0], append(args, "")[1])
}

func runReady(args []string) (int, error) {
	if err := ready.Say(args); err != nil {
		return failed, err
	}
	return 0, nil
}

func runInit(args []string) (int, error) {
	if len(args) < 2 {
		return failed, fmt.Errorf("init: takes a file and the arguments of its program")
	}
	return reaper.Run(args[0], args[1:])
}

// runTold is used by init.
func runTold(args []string) (int, error) {
	if len(args) < 2 {
		return failed, fmt.Errorf("told: takes a file and the arguments of its program")
	}
	return failed, reaper.Told(args[0], args[1:])
}

// Main runs a subcommand, and returns the exit status of the process. What it prints besides is on
// the standard streams of the process.
func Main(args []string, stdout, stderr io.Writer) int {
	status, err := dispatch(args, stdout)
	if err != nil {
		fmt.Fprintln(stderr, app.Line(err))
	}
	return status
}

func dispatch(args []string, stdout io.Writer) (int, error) {
	if len(args) == 0 {
		return failed, fmt.Errorf("no subcommand given (--help lists them)")
	}
	if args[0] == "--help" || args[0] == "-h" {
		_, err := io.WriteString(stdout, Usage)
		return 0, err
	}
	command, ok := commands[args[0]]
	if !ok {
		return failed, fmt.Errorf("unknown subcommand (--help lists them)")
	}
	return command(args[1:])
}
