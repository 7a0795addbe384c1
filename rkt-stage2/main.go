// Rkt-stage2 runs inside a pod, started by the pod's systemd, which sees it as /rkt/stage2.
//
//	rkt-stage2 app NAME [HANDLER]
//	rkt-stage2 init FILE ARG...
//	rkt-stage2 ready APP...
//	rkt-stage2 SUBCOMMAND [ARG...]
//
// It is not meant to be run by hand. Each subcommand does one thing that a pod needs, so that no shell and no program of
// the host's but systemd is started in a pod. "app" becomes an app of the pod: it gives the process the root, user and limits
// that the app's configuration says and executes the app's program, or that of its handler. "ready" tells the host that
// all apps have been executed.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/rkt-toolkit/rkt/lib/stage2/app"
	"github.com/rkt-toolkit/rkt/lib/stage2/health"
	"github.com/rkt-toolkit/rkt/lib/stage2/ready"
	"github.com/rkt-toolkit/rkt/lib/stage2/reaper"
	"github.com/rkt-toolkit/rkt/lib/stage2/recorder"
	"github.com/rkt-toolkit/rkt/lib/stage2/streams"
)

const usage = `Usage: rkt-stage2 app NAME [HANDLER]
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
unhealthy  count the health checks that an app fails, and kill it
streams    pass on what the apps print, to the journal or the console
`

// failed is rkt's own exit status.
const failed = 254

// commands are the subcommands. Each start of an app waits for this program: it links as little as it can.
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
	"streams":   plain(streams.Serve),
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

func main() {
	if len(os.Args) < 2 {
		exit(failed, fmt.Errorf("no subcommand given (--help lists them)"))
	}
	name := os.Args[1]
	if name == "--help" || name == "-h" {
		fmt.Print(usage)
		return
	}
	command, ok := commands[name]
	if !ok {
		exit(failed, fmt.Errorf("unknown subcommand (--help lists them)"))
	}
	exit(command(os.Args[2:]))
}

func exit(status int, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, app.Line(err))
	}
	os.Exit(status)
}
