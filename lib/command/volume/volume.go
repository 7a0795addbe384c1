// Package volume is the program rkt-volume.
package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/poddir/volume"
)

// Command is rkt-volume.
var Command = &cli.Command{
	Name:     "rkt-volume",
	Summary:  "list, make and remove named volumes",
	Synopsis: []string{"list [FLAGS]", "create [FLAGS] VOLUME ...", "rm VOLUME ..."},
	Text: `
Lists named volumes and the pods that mount them, makes empty ones, or removes some
with all that is in them. A volume that a prepared or running pod mounts is not
removed. The first "rkt run --volume=NAME:TARGET IMAGE" makes a volume, too, with
what the image has at TARGET; create is for one that is to be empty, or to have
another owner. It leaves a volume alone that is there.`,
	Details: `
The first rkt-prepare, or rkt run, with --volume=NAME:TARGET fills the volume with
what the image has at TARGET.`,
	Examples: []cli.Example{
		{Line: "rkt run --volume=data:/data docker://redis",
			Text: "Mount the volume data, which is made if it does not exist."},
		{Line: "rkt volume create --user=999 --group=999 data", Text: "Make it empty, for the image's user 999."},
		{Line: "rkt volume rm data", Text: "Remove it when no pod needs it."},
	},
	SeeAlso: []string{"rkt-prepare", "rkt-gc"},
	Verbs: []cli.Verb{
		{Name: "list", Summary: "list volumes, and the pods that mount them", Setup: setupList},
		{Name: "create", Summary: "make empty volumes", Setup: setupCreate},
		{Name: "rm", Summary: "remove volumes with all that is in them", Setup: setupRemove},
	},
}

func setupList(fs *cli.Flags) cli.Run {
	fs.Root = true
	var format cli.Format
	var noLegend bool
	fs.FormatVar(&format, []volume.Volume(nil))
	fs.BoolVar(&noLegend, "no-legend", false, "omit the header line")
	return func(_ context.Context, p *cli.Process) error {
		if fs.NArg() > 0 {
			return fmt.Errorf("list: %q: takes no operands", fs.Arg(0))
		}
		return list(p, volume.In(fs.Global.Dir), format, noLegend)
	}
}

func setupRemove(fs *cli.Flags) cli.Run {
	fs.Root = true
	return func(_ context.Context, p *cli.Process) error { return remove(p, volume.In(fs.Global.Dir), fs.Args()) }
}

func setupCreate(fs *cli.Flags) cli.Run {
	fs.Root = true
	owner, group := 0, 0
	fs.Func("user", "USER: to whom they belong: a UID, or a user of the host (default: root)",
		func(s string) (err error) {
			owner, err = number(s, func(name string) (string, error) {
				found, err := user.Lookup(name)
				if err != nil {
					return "", err
				}
				return found.Uid, nil
			})
			return err
		})
	fs.Func("group", "GROUP: a GID, or a group of the host (default: root)", func(s string) (err error) {
		group, err = number(s, func(name string) (string, error) {
			found, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return found.Gid, nil
		})
		return err
	})
	return func(_ context.Context, p *cli.Process) error {
		return create(p, volume.In(fs.Global.Dir), fs.Args(), owner, group)
	}
}

// number is the number of a user or group, by a lookup if it is a name.
func number(s string, lookup func(string) (string, error)) (int, error) {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return int(n), nil
	}
	found, err := lookup(s)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(found)
}

// create makes volumes that are not there.
func create(p *cli.Process, volumes volume.Volumes, names []string, owner, group int) error {
	if len(names) == 0 {
		return errors.New("create: no volume given (--help shows how)")
	}
	for _, name := range names {
		if !volume.ValidName(name) {
			return fmt.Errorf("volume %q: its name must be of lower-case letters, digits and dashes", name)
		}
	}
	for _, name := range names {
		held, err := volumes.Ensure(name, func(dir *os.File) error {
			return errors.Join(dir.Chmod(0o755), dir.Chown(owner, group))
		})
		if err == nil {
			err = errors.Join(held.Close(), p.PrintLine("%s", name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func list(p *cli.Process, volumes volume.Volumes, format cli.Format, noLegend bool) error {
	all, err := volumes.List()
	if err != nil {
		return err
	}
	if format.JSON() {
		return p.PrintFormat(all, format)
	}
	width := len("NAME")
	for _, v := range all {
		width = max(width, len(v.Name))
	}
	line := func(name, pods string) error {
		return p.PrintLine("%s", strings.TrimRight(fmt.Sprintf("%-*s  %s", width, name, pods), " "))
	}
	if !noLegend {
		if err := line("NAME", "PODS"); err != nil {
			return err
		}
	}
	for _, v := range all {
		var pods []string
		for _, uuid := range v.Pods {
			pods = append(pods, uuid[:8])
		}
		if err := line(v.Name, strings.Join(pods, ",")); err != nil {
			return err
		}
	}
	return nil
}

func remove(p *cli.Process, volumes volume.Volumes, names []string) error {
	if len(names) == 0 {
		return errors.New("rm: no volume given (--help shows how)")
	}
	var errs []error
	for _, name := range names {
		err := volumes.Remove(name)
		if err == nil {
			err = p.PrintLine("%s", name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
