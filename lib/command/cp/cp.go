// Package cp is the program rkt-cp.
package cp

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod/copy"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
)

// Command is rkt-cp.
var Command = &cli.Command{
	Name:     "rkt-cp",
	Summary:  "copy files between the host and an app",
	Synopsis: []string{"[FLAGS] POD[:APP]:PATH PATH", "[FLAGS] PATH POD[:APP]:PATH"},
	Text: `
Copies a file or a directory out of an app, or into it, as cp -r does: into the
second PATH if that is a directory, and under that name if not. A directory whose
path ends with /. is what is in it. PATH in an app begins with /; a path of the
host that has :/ in it begins with / or ./. APP is needed in a pod of several.

` + cli.PodOperand,
	Details: `
The pod may run, be prepared, or have exited. Nothing of the image is executed,
and no link leads out of the app's root. What is copied into an app belongs to the
app's user, what is copied out of it to the caller; modes and times are kept, but
out of an app no set-user-ID and set-group-ID bits.`,
	Examples: []cli.Example{
		{Line: "rkt cp web:/etc/nginx/nginx.conf .", Text: "Copy a file out of the only app of the pod web."},
		{Line: "rkt cp site/. web:nginx:/usr/share/nginx/html", Text: "Copy what is in a directory into an app."},
	},
	SeeAlso: []string{"rkt-enter", "rkt-export"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	fs.Root = true
	return func(ctx context.Context, p *cli.Process) error { return run(ctx, p, fs) }
}

func run(ctx context.Context, p *cli.Process, fs *cli.Flags) error {
	if fs.NArg() != 2 || fs.Arg(0) == "" || fs.Arg(1) == "" {
		return errors.New("two paths, please: POD:PATH PATH, or PATH POD:PATH (--help shows how)")
	}
	from, fromPath, isOut := split(fs.Arg(0))
	to, toPath, isIn := split(fs.Arg(1))
	switch {
	case isOut && isIn:
		return errors.New("both paths are in a pod; copy to the host first")
	case !isOut && !isIn:
		return fmt.Errorf("%s, %s: neither path is in a pod, as POD:/PATH", fs.Arg(0), fs.Arg(1))
	case fs.Arg(0) == "-" || fs.Arg(1) == "-":
		return errors.New("-: archives are not taken; rkt enter POD tar … makes one of a running pod")
	}
	app, err := find(p, poddir.In(fs.Global.Dir), from+to)
	if err != nil {
		return err
	}
	app.Warn, app.Log = func(line string) { p.Say("%s", line) }, p.Log()
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	if isOut {
		app.Path = fromPath
		return inPod(fs.Arg(0), app.Out(ctx, fs.Arg(1)))
	}
	app.Path = toPath
	return inPod(fs.Arg(1), app.In(ctx, fs.Arg(0)))
}

// inPod says of which pod an error is.
func inPod(operand string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", operand, err)
}

// split splits POD[:APP]:PATH before its path. A path of the host is none.
func split(s string) (of, path string, ok bool) {
	i := strings.Index(s, ":/")
	if i < 1 || s[0] == '/' || s[0] == '.' {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// find finds an app by POD or POD:APP; a pod's name may have a colon.
func find(p *cli.Process, pods poddir.Pods, operand string) (app copy.App, err error) {
	self := poddir.Self(p.Getenv, p.PID)
	found, err := pods.Find(operand, self)
	if i := strings.LastIndexByte(operand, ':'); errors.Is(err, poddir.ErrNotFound) && i > 0 {
		found, err = pods.Find(operand[:i], self)
		app.Name = operand[i+1:]
	}
	if err == nil {
		app.Pod, err = running.Of(found, flavor.All())
	}
	if err != nil {
		return app, err
	}
	names, err := app.Pod.Apps()
	if err != nil {
		return app, err
	}
	if app.Name == "" && len(names) > 1 {
		return app, fmt.Errorf("pod %s: has the apps %s; choose one: POD:APP:PATH", app.Pod.UUID,
			strings.Join(names, ", "))
	}
	i, err := app.Pod.ChooseApp(names, app.Name)
	if err == nil {
		app.Name = names[i]
	}
	return app, err
}
