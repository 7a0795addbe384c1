// Package chain owns how the command line of "rkt run" is split into those of the programs that do
// the work.
package chain

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/spelling"
)

// Steps are the command lines of "rkt run": rkt-prepare, rkt-net add and rkt-run-prepared.
type Steps struct {
	Prepare, Net, Run []string // flags of each program
	Operands          []string // images, their flags and arguments; the pod of "rkt run-prepared"
	UUID, UUIDFile    string
	Remove            bool // the pod when it has exited
	Detach            bool // the pod runs in a unit of its own
}

// notOfRun are flags of the programs that "rkt run" does not take, for it has no use for them, or
// gives them itself.
var notOfRun = map[string][]string{
	"rkt-prepare":      {"quiet", "uuid", "strict-isolators"},
	"rkt-net":          {"format", "repair", "force", "uuid-file"},
	"rkt-run-prepared": {"undo", "uuid-file", "strict-isolators"},
}

// borrow has flags of a program add themselves to lists, as they were given: all but those of
// notOfRun.
func borrow(fs *cli.Flags, program, title string, list *[]string) {
	fs.Borrow(program, title)
	var names []string
	for name := range cli.FlagsOf(program) {
		if !slices.Contains(notOfRun[program], name) {
			names = append(names, name)
		}
	}
	fs.Borrowed(program, names, collect(list))
}

// collect adds a flag to lists.
func collect(lists ...*[]string) func(name, value string) error {
	return func(name, value string) error {
		for _, list := range lists {
			*list = append(*list, "--"+name+"="+value)
		}
		return nil
	}
}

// Register registers the flags of "rkt run". Parse fills the steps with them.
func (s *Steps) Register(fs *cli.Flags) {
	borrow(fs, "rkt-prepare", "Flags of the pod", &s.Prepare)
	fs.Borrowed("rkt-prepare", []string{"strict-isolators"}, collect(&s.Prepare, &s.Run))
	borrow(fs, "rkt-net", "Flags of its network", &s.Net)
	borrow(fs, "rkt-run-prepared", "Flags of its start", &s.Run)
	fs.ShowTable("app", "Flags of an app, after its image")
}

// RegisterOwn registers the flags that only "rkt run" has.
func (s *Steps) RegisterOwn(fs *cli.Flags) {
	fs.BoolVar(&s.Remove, "rm", false, "remove the pod when it has exited")
	const detach = "run the pod in a transient service of systemd, and print the service's name once the apps have " +
		"been started"
	fs.BoolVar(&s.Detach, "detach", false, detach)
	fs.BoolVar(&s.Detach, "d", false, detach)
	fs.Borrow("rkt-prepare", "Flags of the pod")
	fs.Borrowed("rkt-prepare", []string{"uuid"}, func(_, value string) error { s.UUID = value; return nil })
}

// AcceptOwn is RegisterOwn for a program that refuses these flags and says why. Its help does not
// list them.
func (s *Steps) AcceptOwn(fs *cli.Flags) {
	own := cli.NewFlags("")
	s.RegisterOwn(own)
	own.VisitAll(func(f *flag.Flag) {
		if fs.Lookup(f.Name) == nil {
			fs.FlagSet.Var(f.Value, f.Name, f.Usage)
		}
	})
}

// Parse sorts the command line of "rkt run" by the programs that take the flags.
func (s *Steps) Parse(fs *flag.FlagSet, args []string) error {
	flags, images, err := Split(fs, args)
	if err != nil {
		return err
	}
	s.Operands = images
	count, wantsHelp := survey(images)
	if wantsHelp {
		return flag.ErrHelp
	}
	if err := cli.ParseFlags(fs, flags); err != nil {
		return err
	}
	if count > 1 && slices.Contains(s.Run, "--interactive=true") {
		return errors.New("interactive option only supports one image")
	}
	return s.check()
}

// Add has the flags of other steps follow those of s.
func (s *Steps) Add(other *Steps) error {
	s.Prepare = append(s.Prepare, other.Prepare...)
	s.Net = append(s.Net, other.Net...)
	s.Run = append(s.Run, other.Run...)
	return s.check()
}

// check refuses flags that contradict each other before anything is fetched. The words are rkt's,
// for scripts.
func (s *Steps) check() error {
	if slices.Contains(s.Run, "--mds-register=true") && slices.Contains(s.Net, "--net=none") {
		return errors.New("--mds-register flag does not work with --net=none: the metadata service is reached over " +
			"the pod's network")
	}
	if s.Detach && slices.Contains(s.Run, "--interactive=true") {
		return errors.New("--interactive and --detach: use one of them; rkt attach connects with an app that runs")
	}
	return nil
}

// Name is the pod's name, "" if the command line has none.
func (s *Steps) Name() (name string) {
	for _, flag := range s.Prepare {
		if value, ok := strings.CutPrefix(flag, "--pod-name="); ok {
			name = value
		}
	}
	return name
}

// RegisterPrepared is Register for "rkt run-prepared", whose pod is an operand.
func (s *Steps) RegisterPrepared(fs *cli.Flags) {
	fs.UUIDFile(&s.UUIDFile)
	borrow(fs, "rkt-net", "Flags of its network", &s.Net)
	borrow(fs, "rkt-run-prepared", "Flags of its start", &s.Run)
	fs.Borrowed("rkt-run-prepared", []string{"strict-isolators"}, collect(&s.Run))
}

// ParsePrepared is Parse for "rkt run-prepared".
func (s *Steps) ParsePrepared(fs *flag.FlagSet, args []string) error {
	flags, operands, err := cli.Anywhere(fs, cli.JoinNet(args))
	if err != nil {
		return err
	}
	s.Operands = operands
	return cli.ParseFlags(fs, flags)
}

// Split sorts a command line that names images into the flags of the pod, which are those of fs and
// may stand anywhere up to a "--", and the images, each with its flags and its arguments. What
// follows an image is the app's if an app has such a flag. --help after an image stays there.
func Split(fs *flag.FlagSet, args []string) (flags, images []string, err error) {
	app := cli.Known("app")
	for len(args) > 0 {
		switch word := args[0]; {
		case word == "---" && len(images) == 0:
			return nil, nil, fmt.Errorf("---: there is no image before it")
		case word == "--" && len(images) == 0:
			args = args[1:]
			continue
		case word == "--":
			end := slices.Index(args, "---")
			if end < 0 {
				end = len(args)
			}
			images, args = append(images, args[:end]...), args[end:]
			continue
		case word == "---":
			images, args = append(images, word), args[1:]
			continue
		}
		if args[0] == "--net" && len(args) > 1 {
			args = append(cli.JoinNet(args[:2:2]), args[2:]...)
		}
		set, to := fs, &flags
		name, _, _ := strings.Cut(strings.TrimLeft(args[0], "-"), "=")
		isApp := app.Lookup(name) != nil
		switch {
		case len(images) > 0 && (isApp || name == "help" || name == "h"):
			set, to = app, &images
		case isApp && fs.Lookup(name) == nil && strings.HasPrefix(args[0], "-"):
			if name == "name" {
				return nil, nil, errors.New("--name is an app flag; put it after the image; a pod's name is --pod-name")
			}
			return nil, nil, fmt.Errorf("--%s is an app flag; put it after the image", name)
		}
		n, err := cli.FlagWords(set, args)
		if err != nil {
			if hint := dockers(err); hint != nil {
				return nil, nil, hint
			}
			return nil, nil, unknown(err, app, len(images) > 0)
		}
		if n == 0 {
			to, n = &images, 1
		}
		*to, args = append(*to, args[:n]...), args[n:]
	}
	return flags, images, nil
}

// unknown completes the error for a flag that a pod does not have.
func unknown(err error, app *flag.FlagSet, afterImage bool) error {
	flag, ok := err.(cli.UnknownFlag)
	if !ok || !afterImage {
		return err
	}
	if flag.Near == "" {
		names := slices.Collect(maps.Keys(cli.FlagsOf("app")))
		flag.Near = spelling.Near(strings.TrimLeft(flag.Typed, "-"), names)
	}
	if flag.Near != "" {
		return flag
	}
	return fmt.Errorf("%w; the arguments of an app follow a --: IMAGE -- ARGS", err)
}

// survey counts images, and reports whether --help follows one of them, outside of an app's
// arguments.
func survey(images []string) (count int, wantsHelp bool) {
	app, inArgs := cli.Known("app"), false
	for len(images) > 0 {
		n := 1
		switch word := images[0]; {
		case word == "--":
			inArgs = true
		case word == "---":
			inArgs = false
		case inArgs:
		case slices.Contains([]string{"--help", "-help", "-h", "--h"}, word):
			return count, true
		default:
			words, _ := cli.FlagWords(app, images)
			if words == 0 {
				count++
			}
			n = max(words, 1)
		}
		images = images[n:]
	}
	return count, false
}
