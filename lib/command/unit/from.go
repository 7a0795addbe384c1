package unit

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/cli/chain"
	"github.com/rkt-toolkit/rkt/lib/pod/podunit"
	"github.com/rkt-toolkit/rkt/lib/pod/quadlet"
)

// convert writes what a Quadlet file becomes. Flags of the pod that are given here follow those of
// the file.
func (c *call) convert(p *cli.Process, fs *cli.Flags, s *chain.Steps) error {
	if len(s.Operands) > 0 {
		return fmt.Errorf("--from=%s: the file says what runs; leave out %q", c.from, s.Operands[0])
	}
	u, err := quadlet.Convert(c.from)
	if err != nil {
		return err
	}
	name := u.Name
	if c.name != "" {
		name = c.name
	}
	pod := &podunit.Pod{Imported: true, Reload: u.Reload, Offline: u.Offline}
	for _, setting := range u.Settings {
		pod.Settings = append(pod.Settings, podunit.Setting(setting))
	}
	switch {
	case u.Note != "":
		p.Say("%s: %s", c.from, u.Note)
		return nil
	case u.Network != "":
		return c.network(p, fs, u)
	case u.Once != nil:
		return c.once(p, fs, name, pod, u.Once)
	}
	file := &chain.Steps{}
	flags := cli.NewFlags("")
	file.Register(flags)
	if err := file.Parse(flags.FlagSet, u.Args); err != nil {
		return fmt.Errorf("%s: %w", c.from, err)
	}
	if err := shareGlobals(flags, fs); err != nil {
		return fmt.Errorf("%s: %w", c.from, err)
	}
	if err := file.Add(s); err != nil {
		return fmt.Errorf("%s: %w", c.from, err)
	}
	if file.UUID != "" || file.Remove || file.Detach {
		return errors.New("--uuid, --rm and --detach are for a pod without a unit file")
	}
	return c.finish(p, fs, file, name, pod, nil)
}

// shareGlobals has flags of every program that the file gives become those of the command line,
// which take precedence, and add to --insecure-options.
func shareGlobals(from, to *cli.Flags) (err error) {
	given := map[string]string{}
	to.Visit(func(f *flag.Flag) { given[f.Name] = f.Value.String() })
	from.Visit(func(f *flag.Flag) {
		old, ok := given[f.Name]
		switch {
		case f.Name == "insecure-options" && ok && err == nil:
			err = to.Set(f.Name, old+","+f.Value.String())
		case globals[f.Name] && !ok && err == nil:
			err = to.Set(f.Name, f.Value.String())
		}
	})
	return err
}

// network writes a file of net.d.
func (c *call) network(p *cli.Process, fs *cli.Flags, u *quadlet.Unit) error {
	if c.output == "" {
		_, err := p.Stdout.Write(u.NetworkText)
		return err
	}
	path := filepath.Join(fs.Global.LocalConfig, "net.d", u.Network+".conf")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return placeAll([]text{{path, u.NetworkText}}, c.overwrite)
}

// once writes a service that runs a program once.
func (c *call) once(p *cli.Process, fs *cli.Flags, name string, pod *podunit.Pod, argv []string) error {
	program, err := cli.Sibling(argv[0])
	if err != nil {
		return err
	}
	pod.Name, pod.Programs = name, filepath.Dir(program)
	if pod.Environment, err = variables(fs); err != nil {
		return err
	}
	service, err := pod.Once(argv)
	if err != nil {
		return err
	}
	if c.output == "" {
		return printUnits(p, name, service, nil)
	}
	return place(filepath.Join(c.output, name), service, nil, c.overwrite)
}
