// Package enter is the program rkt-enter.
package enter

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/image"
	_ "github.com/rkt-toolkit/rkt/lib/image/isolator" // manifests may have it
	"github.com/rkt-toolkit/rkt/lib/pod/enter"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/mds"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
)

// Command is rkt-enter.
var Command = &cli.Command{
	Name:     "rkt-enter",
	Summary:  "run a command in a running pod",
	Synopsis: []string{"[FLAGS] POD [COMMAND [ARG ...]]"},
	Text: `
Runs a command as root in a running pod, with the environment, working directory,
namespaces, bounding set, seccomp filter and limits of one of its apps. Without a
command, runs a shell. Exits with the command's status.

` + cli.PodOperand,
	Details: `
The command is in the app's cgroup. It never gets the caller's terminal, but one of
the pod's. What follows POD and its flags is the command's.`,
	Examples: []cli.Example{
		{Line: "rkt enter web", Text: "Start a shell in the only app of the pod web."},
		{Line: "rkt enter --app=db web psql -c 'select 1'", Text: "Run a command in one of several apps."},
	},
	Exit:    "The command's status, 128+n if it died of signal n, or 254 for an error of rkt's own.",
	SeeAlso: []string{"rkt-attach", "rkt-cp", "rkt-logs"},
	First: func(_ context.Context, p *cli.Process) (bool, error) {
		if !enter.Inside(append([]string{p.Invoked}, p.Args...)) {
			return false, nil
		}
		return true, enter.Become()
	},
	Setup: setup,
}

func setup(fs *cli.Flags) cli.Run {
	fs.Root = true
	var app, user, uuidFile string
	fs.StringVar(&app, "app", "", "NAME: which app; needed in a pod of several")
	fs.StringVar(&user, "user", "", "app: run as the app's user\nUID[:GID]: run as another user than root")
	fs.UUIDFile(&uuidFile)
	var operand, argv []string
	fs.Sort = func(p *cli.Process, args []string) (flags, operands []string, err error) {
		flags, operand, argv, err = sort(p, fs.FlagSet, args)
		return flags, argv, err
	}
	return func(_ context.Context, p *cli.Process) error {
		if len(argv) > 0 && argv[0] == "--" {
			argv = argv[1:]
		}
		if len(operand) == 0 && uuidFile == "" && len(argv) > 0 {
			operand, argv = argv[:1], argv[1:]
		}
		return enterPod(p, fs.Global, operand, argv, app, user, uuidFile)
	}
}

func enterPod(p *cli.Process, g *cli.Global, operand, argv []string, app, user, uuidFile string) error {
	found, err := p.OnePod(poddir.In(g.Dir), operand, uuidFile)
	if err != nil {
		return err
	}
	if err := enter.Detach(append([]string{p.Name}, p.Args...), p.Environ()); err != nil {
		return err
	}
	c, err := command(found, app, argv, p.Getenv("TERM"))
	if err != nil {
		return err
	}
	c.Unfiltered = g.Insecure.Seccomp
	c.Caller[0], c.Caller[1], c.Caller[2] = p.Streams()
	switch user {
	case "":
		c.User = &enter.User{} // as in rkt
	case "app":
	default:
		if c.User, err = parseUser(user); err != nil {
			return fmt.Errorf("--user=%s: %w", user, err)
		}
	}
	p.Log().Debug("enters", "pod", found.UUID, "app", c.App, "user", user)
	pod, err := running.Of(found, flavor.All())
	if err != nil {
		return err
	}
	status, err := enter.Run(pod, c)
	if err == nil && status != 0 {
		err = cli.ExitStatus(status)
	}
	return err
}

// sort sorts the command line into flags, the pod, which --uuid-file may name instead, and the
// command. Flags may stand before and after the pod; what follows them is the command's.
func sort(p *cli.Process, fs *flag.FlagSet, args []string) (flags, operand, argv []string, err error) {
	flags, argv, err = cli.Leading(fs, args)
	isFile := func(word string) bool { return strings.HasPrefix(strings.TrimLeft(word, "-"), "uuid-file") }
	if err == nil && len(argv) > 0 && argv[0] != "--" && p.Getenv("RKT_UUID_FILE") == "" &&
		!slices.ContainsFunc(flags, isFile) {
		var more []string
		operand = argv[:1]
		more, argv, err = cli.Leading(fs, argv[1:])
		flags = append(slices.Clone(flags), more...)
	}
	return flags, operand, argv, err
}

// command completes what the user gave from the pod's manifest.
func command(p *poddir.Pod, name string, argv []string, term string) (enter.Command, error) {
	manifest, err := p.Manifest()
	if err != nil {
		return enter.Command{}, err
	}
	i, err := p.ChooseApp(manifest.AppNames(), name)
	if err != nil {
		return enter.Command{}, err
	}
	app := manifest.Apps[i]
	name = app.Name
	if app.App == nil {
		return enter.Command{}, fmt.Errorf("pod %s: manifest: app %q has no field app", p.UUID, name)
	}
	c := enter.Command{App: name, Argv: argv, Dir: app.App.WorkingDirectory}
	for _, v := range app.App.Environment {
		c.Env = append(c.Env, v.Name+"="+v.Value)
	}
	if text := app.Annotation(image.AnnotationEnvironment); text != "" {
		var odd []string
		if err := json.Unmarshal([]byte(text), &odd); err != nil {
			return enter.Command{}, fmt.Errorf("pod %s: app %q: annotation %s: %w", p.UUID, name,
				image.AnnotationEnvironment, err)
		}
		c.Env = append(c.Env, odd...)
	}
	c.Env = append(c.Env, given(p, name, c.Env)...)
	if url := mds.URL(p); url != "" {
		c.Env = append(c.Env, "AC_METADATA_URL="+url)
	}
	if term != "" {
		c.Env = append(c.Env, "TERM="+term)
	}
	if len(c.Argv) == 0 { // rkt had /bin/bash, which few images have today
		c.Argv = []string{"/bin/sh", "-c", "command -v bash >/dev/null && exec bash; exec sh"}
	}
	return c, nil
}

// atStart are variables that an app is given when it starts.
var atStart = []string{"CREDENTIALS_DIRECTORY", "HOSTNAME"}

// given are those of them that the app has and env has not. One that an older rkt started has no
// configuration.
func given(p *poddir.Pod, app string, env []string) (vars []string) {
	text, err := p.ReadFile(poddir.AppConfig(app, stage1.ConfigFile))
	if err != nil {
		return nil
	}
	config, err := stage1.ParseConfig(text)
	if err != nil || config.Process == nil {
		return nil // which is said when the app is entered
	}
	for _, v := range config.Process.Env {
		if name, _, _ := strings.Cut(v, "="); slices.Contains(atStart, name) && !slices.Contains(env, v) {
			vars = append(vars, v)
		}
	}
	return vars
}

// parseUser takes UID[:GID], and "root". Without GID it is that of the number UID.
func parseUser(s string) (*enter.User, error) {
	if s == "root" {
		return &enter.User{}, nil
	}
	user, group, both := strings.Cut(s, ":")
	if !both {
		group = user
	}
	var u enter.User
	for _, id := range []struct {
		text string
		into *uint32
	}{{user, &u.UID}, {group, &u.GID}} {
		n, err := strconv.ParseUint(id.text, 10, 32)
		if err != nil || n == math.MaxUint32 { // which is none
			return nil, fmt.Errorf("%q: not the number of a user or group", id.text)
		}
		*id.into = uint32(n)
	}
	return &u, nil
}
