// Package chain owns how the command line of "rkt run" is split into those of the programs that do the work.
package chain

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
)

// Steps are the command lines of "rkt run": rkt-prepare, rkt-net add and rkt-run-prepared.
type Steps struct {
	Prepare, Net, Run []string // flags of each program
	Operands          []string // images, their flags and arguments; the pod of "rkt run-prepared"
	UUID, UUIDFile    string
	Remove            bool // the pod when it has exited
	Detach            bool // the pod runs in a unit of its own
}

var (
	netFlags     = []string{"net", "cni-path", "dns", "dns-search", "dns-opt", "dns-domain", "hosts-entry"}
	runFlags     = []string{"hostname", "interactive", "ipc", "mds-register"}
	prepareFlags = []string{"any-platform", "port", "set-env", "set-env-file", "env-file", "shm-size", "volume", "mount", "pull-policy", "pod-manifest", "pod-name", "pids-max", "sysctl",
		"uuid-file-save", "stage1-url", "stage1-path", "stage1-name", "stage1-hash", "stage1-from-dir", "no-overlay", "private-users",
		"inherit-env", "store-only", "no-store"}
)

// collect has flags of a program add themselves to a list, as they were given.
func collect(fs *flag.FlagSet, program string, names []string, lists ...*[]string) {
	takesValue := cli.FlagsOf(program)
	for _, name := range names {
		add := func(v string) error {
			for _, list := range lists {
				*list = append(*list, "--"+name+"="+v)
			}
			return nil
		}
		if takesValue[name] {
			fs.Func(name, "", add)
		} else {
			fs.BoolFunc(name, "", add)
		}
	}
}

// Parse sorts the command line of "rkt run" by the programs that take the flags.
func Parse(fs *flag.FlagSet, args []string) (*Steps, error) {
	s := &Steps{}
	collect(fs, "rkt-prepare", prepareFlags, &s.Prepare)
	collect(fs, "rkt-net", netFlags, &s.Net)
	collect(fs, "rkt-run-prepared", runFlags, &s.Run)
	collect(fs, "rkt-prepare", []string{"strict-isolators"}, &s.Prepare, &s.Run)
	fs.StringVar(&s.UUID, "uuid", "", "")
	fs.BoolVar(&s.Remove, "rm", false, "")
	fs.BoolVar(&s.Detach, "detach", false, "")
	fs.BoolVar(&s.Detach, "d", false, "")
	flags, images, err := Split(fs, args)
	if err != nil {
		return nil, err
	}
	s.Operands = images
	count, wantsHelp := survey(images)
	if wantsHelp {
		return nil, flag.ErrHelp
	}
	if err := cli.ParseFlags(fs, flags); err != nil {
		return nil, err
	}
	if count > 1 && slices.Contains(s.Run, "--interactive=true") {
		return nil, errors.New("interactive option only supports one image")
	}
	return s, s.check()
}

// check refuses flags that contradict each other before anything is fetched. The words are rkt's, for scripts.
func (s *Steps) check() error {
	if slices.Contains(s.Run, "--mds-register=true") && slices.Contains(s.Net, "--net=none") {
		return errors.New("--mds-register flag does not work with --net=none: the metadata service is reached over the pod's network")
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

// ParsePrepared is Parse for "rkt run-prepared", whose pod is an operand.
func ParsePrepared(fs *flag.FlagSet, args []string) (*Steps, error) {
	s := &Steps{}
	collect(fs, "rkt-net", netFlags, &s.Net)
	collect(fs, "rkt-run-prepared", append(slices.Clone(runFlags), "strict-isolators"), &s.Run)
	fs.StringVar(&s.UUIDFile, "uuid-file", "", "")
	flags, operands, err := cli.Anywhere(fs, cli.JoinNet(args))
	if err != nil {
		return nil, err
	}
	s.Operands = operands
	return s, cli.ParseFlags(fs, flags)
}

// Split sorts a command line that names images into the flags of the pod, which are those of fs and may stand anywhere up to a "--",
// and the images, each with its flags and its arguments. What follows an image is the app's if an app has such a flag. --help after
// an image stays there.
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
		flag.Near = cli.Near(strings.TrimLeft(flag.Typed, "-"), names)
	}
	if flag.Near != "" {
		return flag
	}
	return fmt.Errorf("%w; the arguments of an app follow a --: IMAGE -- ARGS", err)
}

// survey counts images, and reports whether --help follows one of them, outside of an app's arguments.
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
