// Rkt-enter runs a command inside a running pod.
//
//	rkt-enter [FLAGS] POD [COMMAND [ARG …]]
//
// The command runs in one of the pod's apps, with all that the app has: its user, environment, working directory, namespaces, control
// group, and limits. Without a command it is a shell. It never gets the caller's terminal, but one of the pod's.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/enter"
	"github.com/rkt-toolkit/rkt/lib/image"
	_ "github.com/rkt-toolkit/rkt/lib/isolator" // manifests may have it
	"github.com/rkt-toolkit/rkt/lib/mds"
	"github.com/rkt-toolkit/rkt/lib/pod"
)

const usage = `Usage: rkt-enter [FLAGS] POD [COMMAND [ARG ...]]

Runs a command in a running pod, with all that one of its apps has: its user,
environment, working directory, namespaces and limits. Without a command, runs a
shell. Exits with the command's status.

POD is a UUID, the unique start of one, @FILE, a pod's name, or self.

Flags:
  --app=NAME         which app; needed in a pod of several
  --user=UID[:GID]   as another user than the app's; root is 0:0
  --uuid-file=FILE   the pod whose UUID is in FILE

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST,
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help.
`

func main() {
	run := enterPod
	if enter.Inside(os.Args) {
		run = func(context.Context, *cli.Process) error { return enter.Become() }
	}
	cli.Main("rkt-enter", usage, run)
}

func enterPod(_ context.Context, p *cli.Process) error {
	fs, g := p.Flags()
	var app, user, uuidFile string
	fs.StringVar(&app, "app", "", "")
	fs.StringVar(&user, "user", "", "")
	fs.StringVar(&uuidFile, "uuid-file", "", "")
	if err := p.Parse(fs, g, p.Args); err != nil {
		return err
	}
	operand, argv := fs.Args(), []string(nil)
	if uuidFile != "" {
		operand, argv = nil, operand
	} else if len(operand) > 1 {
		operand, argv = operand[:1], operand[1:]
	}
	found, err := p.OnePod(pod.In(g.Dir), operand, uuidFile)
	if err != nil {
		return err
	}
	if len(argv) > 0 && argv[0] == "--" {
		argv = argv[1:]
	}
	if err := enter.Detach(append([]string{p.Name}, p.Args...), os.Environ()); err != nil {
		return err
	}
	c, err := command(found, app, argv)
	if err != nil {
		return err
	}
	c.Unfiltered = g.Insecure.Seccomp
	if user != "" {
		if c.UID, c.GID, err = parseUser(user); err != nil {
			return fmt.Errorf("--user=%s: %w", user, err)
		}
		c.Groups = nil
	}
	p.Log().Debug("enters", "pod", found.UUID, "app", c.App, "uid", c.UID, "gid", c.GID)
	status, err := enter.Run(found, c)
	if err == nil && status != 0 {
		err = cli.ExitStatus(status)
	}
	return err
}

// command completes what the user gave from the pod's manifest.
func command(p *pod.Pod, name string, argv []string) (enter.Command, error) {
	var manifest schema.PodManifest
	text, err := p.ReadFile(pod.ManifestFile)
	if err == nil {
		err = json.Unmarshal(text, &manifest)
	}
	if err != nil {
		return enter.Command{}, fmt.Errorf("pod %s: manifest: %w", p.UUID, err)
	}
	var names []string
	for _, a := range manifest.Apps {
		names = append(names, a.Name.String())
	}
	i, err := p.ChooseApp(names, name)
	if err != nil {
		return enter.Command{}, err
	}
	name = names[i]
	app := manifest.Apps[i]
	if app.App == nil {
		return enter.Command{}, fmt.Errorf("pod %s: manifest: app %q has no field app", p.UUID, name)
	}
	c := enter.Command{App: app.Name.String(), Argv: argv, Dir: app.App.WorkingDirectory}
	if c.UID, c.GID, err = parseUser(app.App.User + ":" + app.App.Group); err != nil {
		return enter.Command{}, fmt.Errorf("pod %s: app %q: %w", p.UUID, name, err)
	}
	for _, gid := range app.App.SupplementaryGIDs {
		c.Groups = append(c.Groups, uint32(gid))
	}
	for _, v := range app.App.Environment {
		c.Env = append(c.Env, v.Name+"="+v.Value)
	}
	if text, ok := app.Annotations.Get(image.AnnotationEnvironment); ok {
		var odd []string
		if err := json.Unmarshal([]byte(text), &odd); err != nil {
			return enter.Command{}, fmt.Errorf("pod %s: app %q: annotation %s: %w", p.UUID, name, image.AnnotationEnvironment, err)
		}
		c.Env = append(c.Env, odd...)
	}
	if url := mds.URL(p); url != "" {
		c.Env = append(c.Env, "AC_METADATA_URL="+url)
	}
	if term := os.Getenv("TERM"); term != "" {
		c.Env = append(c.Env, "TERM="+term)
	}
	if len(c.Argv) == 0 { // rkt had /bin/bash, which few images have today
		c.Argv = []string{"/bin/sh", "-c", "command -v bash >/dev/null && exec bash; exec sh"}
	}
	return c, nil
}

// parseUser takes UID[:GID], and "root". Without GID it is that of the number UID.
func parseUser(s string) (uid, gid uint32, err error) {
	if s == "root" {
		return 0, 0, nil
	}
	user, group, both := strings.Cut(s, ":")
	if !both {
		group = user
	}
	for _, id := range []struct {
		text string
		into *uint32
	}{{user, &uid}, {group, &gid}} {
		n, err := strconv.ParseUint(id.text, 10, 32)
		if err != nil || n == math.MaxUint32 { // which is none
			return 0, 0, fmt.Errorf("%q: not the number of a user or group", id.text)
		}
		*id.into = uint32(n)
	}
	return uid, gid, nil
}
