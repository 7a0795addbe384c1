// Package unit is the program rkt-unit.
package unit

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/cli/chain"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/resolve"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/pod/choose"
	"github.com/rkt-toolkit/rkt/lib/pod/podunit"
)

// Command is rkt-unit.
var Command = &cli.Command{
	Name:     "rkt-unit",
	Summary:  "print the unit file of a service that runs a pod",
	Synopsis: []string{"[FLAGS] IMAGE [APP FLAGS] [-- ARGS] [--- IMAGE ...]", "[FLAGS] --from=FILE"},
	Text: `
Prints the unit file of a service that runs these images as "rkt run" does:

  rkt-unit docker://redis >/etc/systemd/system/redis.service

If an image is in the store and has ports that are marked as socket activated,
a socket unit follows, after a line "# NAME.socket".

With --from=FILE it reads a Quadlet file of Podman's instead: a .container or .pod
file, an .image or .volume file, which become services that run once, and a .network
file, which becomes a file in net.d of --local-config. A key that rkt has nothing for
is refused, with what to write instead.

"systemctl edit" with Environment= lines changes the image (IMAGE, the second image's
is IMAGE_2), the ports of the host (PORT_80_TCP), and limits that are given here
(MEMORY, CPU). A name that ends in @ makes a template, in which %i is the instance's
name.

Takes all flags of "rkt run" except --rm, --detach and --uuid: the pod's UUID is
that of the service's start. They may also follow an image; a flag that an app has
belongs to the image before it.`,
	Details: `
Each step of the pod's life is a line of the service: rkt-prepare, rkt-net add,
rkt-run-prepared, rkt-net del and rkt-gc, each with the flags that it takes. Values
are escaped, so that systemd gives the programs what was on the command line. With
--inherit-env there are no variables, which the apps would have, too.`,
	Notes: `
Flags of every program that are given, also by a variable or rkt.conf, become
variables in the unit, such as RKT_INSECURE_OPTIONS.`,
	Examples: []cli.Example{
		{Line: "rkt unit --output=/etc/systemd/system docker://redis --memory=256Mi",
			Text: "Write /etc/systemd/system/redis.service."},
		{Line: "rkt unit --from=/etc/containers/systemd/web.container --output=/etc/systemd/system",
			Text: "Write web.service."},
		{Line: "rkt unit --name=web@ --volume=web-%i:/data docker://nginx", Text: "Print a template: web@1, web@2."},
	},
	SeeAlso: []string{"rkt-prepare", "rkt-run-prepared", "systemd.service"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	var c call
	fs.StringVar(&c.name, "name", "", "NAME: of the service (default: the first image's, or the file's)")
	fs.StringVar(&c.from, "from", "", "FILE: a Quadlet file, in place of images; its drop-ins and the files "+
		"that it names are beside it")
	fs.StringVar(&c.output, "output", "", "DIR: write DIR/NAME.service, and DIR/NAME.socket if there is "+
		"one, instead of printing them")
	fs.BoolVar(&c.overwrite, "overwrite", false, "with --output: replace what is there, though it is something else, "+
		"as after somebody has edited it")
	s := &chain.Steps{}
	s.Register(fs)
	s.AcceptOwn(fs)
	fs.Sort = func(_ *cli.Process, args []string) (flags, operands []string, err error) {
		if err := s.Parse(fs.FlagSet, args); err != nil {
			return nil, nil, err
		}
		return nil, s.Operands, absolute(s.Prepare) // variables and rkt.conf come after it
	}
	return func(_ context.Context, p *cli.Process) error {
		if c.from != "" {
			return c.convert(p, fs, s)
		}
		return c.write(p, fs, s)
	}
}

// call is what this program's own flags say.
type call struct {
	name, from, output string
	overwrite          bool
}

func (c *call) write(p *cli.Process, fs *cli.Flags, s *chain.Steps) error {
	if err := checkSteps(s, c.name); err != nil {
		return err
	}
	images, err := references(s)
	if err != nil {
		return err
	}
	name := c.name
	if name == "" {
		name = nameOf(images[0])
	}
	if name, err = serviceName(name); err != nil {
		return err
	}
	pod := &podunit.Pod{}
	ports, err := activated(fs.Global, images)
	if err != nil {
		return err
	}
	return c.finish(p, fs, s, name, pod, ports)
}

// finish writes the units of a pod whose command line has been read.
func (c *call) finish(p *cli.Process, fs *cli.Flags, s *chain.Steps, name string, pod *podunit.Pod,
	ports []podunit.Port) error {
	name, err := serviceName(name)
	if err != nil {
		return err
	}
	program, err := cli.Sibling("rkt-run-prepared")
	if err != nil {
		return err
	}
	pod.Name, pod.Programs = name, filepath.Dir(program)
	pod.Prepare, pod.Net, pod.Run = s.Prepare, s.Net, s.Run
	if pod.Apps, err = apps(s.Operands); err != nil {
		return err
	}
	if pod.Environment, err = variables(fs); err != nil {
		return err
	}
	service, err := pod.Service()
	if err != nil {
		return err
	}
	var socket []byte
	if len(ports) > 0 {
		if socket, err = pod.Socket(ports); err != nil {
			return err
		}
	}
	if c.output == "" {
		return printUnits(p, name, service, socket)
	}
	return place(filepath.Join(c.output, name), service, socket, c.overwrite)
}

// serviceName is the name of a service without .service at its end.
func serviceName(name string) (string, error) {
	name = strings.TrimSuffix(name, ".service")
	if !podunit.ValidName(name) {
		return "", fmt.Errorf("%q: not the name of a service; give one with --name", name)
	}
	return name, nil
}

// text is a file that is to be written; none if its text is nil.
type text struct {
	path string
	text []byte
}

// place writes the units that there are.
func place(path string, service, socket []byte, overwrite bool) error {
	return placeAll([]text{{path + ".socket", socket}, {path + ".service", service}}, overwrite)
}

// placeAll writes files. What somebody has edited stays, unless overwrite says otherwise.
func placeAll(files []text, overwrite bool) error {
	for _, file := range files {
		old, err := os.ReadFile(file.path)
		if file.text != nil && err == nil && !bytes.Equal(old, file.text) && !overwrite {
			return fmt.Errorf("%s: is there, and is something else; keep it, or replace it with --overwrite", file.path)
		}
	}
	for _, file := range files {
		if file.text == nil {
			continue
		}
		if err := durable.WriteFile(file.path, file.text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// checkSteps refuses flags that a service has no use for.
func checkSteps(s *chain.Steps, name string) error {
	manifest := slices.ContainsFunc(s.Prepare, func(flag string) bool {
		return strings.HasPrefix(flag, "--pod-manifest=")
	})
	switch {
	case s.Remove || s.Detach:
		return errors.New("--rm and --detach are for a pod without a unit file; leave them out: the service " +
			"removes its pod")
	case s.UUID != "":
		return errors.New("--uuid: the pod's UUID is that of each start of the service")
	case len(s.Operands) == 0 && !manifest:
		return errors.New("no image given (--help shows how)")
	case manifest && name == "":
		return errors.New("--pod-manifest: give the service a name with --name")
	}
	return choose.Check(s.Prepare)
}

// globals are the flags of every program that a unit has as variables.
var globals = map[string]bool{"system-config": true, "local-config": true, "user-config": true, "dir": true,
	"insecure-options": true, "trust-keys-from-https": true, "debug": true}

// variables are those by which the service has the flags that all programs have, as they were given
// here.
func variables(fs *cli.Flags) (list [][2]string, err error) {
	fs.Visit(func(f *flag.Flag) {
		value := f.Value.String()
		if !globals[f.Name] {
			return
		}
		if strings.HasSuffix(f.Name, "-config") && value != "" { // relative to this program's working directory
			value, err = filepath.Abs(value)
		}
		list = append(list, [2]string{"RKT_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")), value})
	})
	return list, err
}

// printUnits prints what would be written.
func printUnits(p *cli.Process, name string, service, socket []byte) error {
	if socket != nil {
		service = slices.Concat(service, []byte("\n# "+name+".socket\n"), socket)
	}
	_, err := p.Stdout.Write(service)
	return err
}

// namesFile are flags whose value is the name of a file.
var namesFile = []string{"--set-env-file", "--uuid-file-save", "--signature", "--pod-manifest"}

// absolute has the flags that name a file name it for a service, too, which has another working
// directory.
func absolute(flags []string) error {
	for i, flag := range flags {
		name, file, _ := strings.Cut(flag, "=")
		if !slices.Contains(namesFile, name) || file == "" {
			continue
		}
		abs, err := filepath.Abs(file)
		if err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
		flags[i] = name + "=" + abs
	}
	return nil
}

// apps are the images of a command line, each with its flags, a word each, and its arguments.
func apps(operands []string) (list []podunit.App, err error) {
	known := cli.Known("app")
	for words := operands; len(words) > 0; {
		last := len(list) - 1
		switch words[0] {
		case "---":
			words = words[1:]
			continue
		case "--":
			end := slices.Index(append(slices.Clone(words), "---"), "---")
			list[last].Args, words = words[1:end], words[end:]
			continue
		}
		n, err := cli.FlagWords(known, words)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			list[last].Flags = append(list[last].Flags, "--"+strings.TrimLeft(strings.Join(words[:n], "="), "-"))
		} else {
			list, n = append(list, podunit.App{Image: words[0]}), 1
		}
		words = words[n:]
	}
	return list, nil
}

// references are the images of the command line that stand first or after "---". A path becomes
// absolute: a service has another working directory.
func references(s *chain.Steps) ([]image.Reference, error) {
	var found []image.Reference
	for i, operand := range s.Operands {
		if i > 0 && s.Operands[i-1] != "---" {
			continue
		}
		ref, err := image.ParseReference(operand)
		if err != nil {
			return nil, fmt.Errorf("image %q: %w", operand, err)
		}
		if ref.Local() {
			s.Operands[i] = ref.Name()
		}
		found = append(found, ref)
	}
	return found, nil
}

// nameOf is the last part of an image's name.
func nameOf(ref image.Reference) string {
	for _, s := range []string{ref.Repository, ref.App} {
		if s != "" {
			return path.Base(s)
		}
	}
	base := path.Base(ref.Path)
	return strings.TrimSuffix(base, path.Ext(base))
}

// activated are the ports of those images that are in the store. No store is no image.
func activated(g *cli.Global, images []image.Reference) (ports []podunit.Port, err error) {
	if _, err := os.Lstat(filepath.Join(g.Dir, "cas")); err != nil {
		return nil, nil
	}
	s, err := store.Open(g.Dir)
	if err != nil {
		return nil, err
	}
	r := resolve.New(s, g.Insecure.Image, g.SystemConfig, g.LocalConfig, g.UserConfig)
	for _, ref := range images {
		found, err := r.Lookup(ref)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if errors.Is(err, resolve.ErrUnverified) {
			return nil, fmt.Errorf("image %s: %w: \"rkt fetch\" verifies it, or use --insecure-options=image to "+
				"run it unsigned", ref.Name(), err)
		}
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", ref.Name(), err)
		}
		if found.Manifest.App == nil {
			continue
		}
		for _, port := range found.Manifest.App.Ports {
			if port.SocketActivated {
				ports = append(ports, podunit.Port{Name: string(port.Name), Protocol: port.Protocol, Port: port.Port,
					Count: port.Count})
			}
		}
	}
	return ports, nil
}
