// Package rkt is the program rkt, the front of the toolkit: the command line of rkt 1.30.
package rkt

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/spelling"
)

// Command is rkt.
var Command = &cli.Command{
	Name:     "rkt",
	Summary:  "run application containers as systemd services",
	Synopsis: []string{"[GLOBAL FLAGS] COMMAND [ARGS ...]"},
	Text: `
Runs application containers as plain processes, without a daemon. Each command is
a program of its own; "rkt help COMMAND" tells more. Its flags may stand before or
after its name.`,
	Details: `
"rkt gc" is rkt-gc, found beside rkt or in $PATH, and rkt becomes it. Global flags
are passed on as RKT_* variables. "rkt run" runs rkt-prepare (which runs rkt-fetch
for an image that is not in the store), rkt-net add and rkt-run-prepared, which it
becomes.`,
	Examples: []cli.Example{
		{Line: "rkt run --insecure-options=image docker://busybox -- echo hello",
			Text: "Run a command in a pod made from an unsigned image."},
		{Line: "rkt unit docker://redis >/etc/systemd/system/redis.service", Text: "Make a service that runs a pod."},
		{Line: "rkt list", Text: "List pods."},
	},
	Exit: "0, the status of a pod or of a command in it, 2 if no command is given, or 254 for an error of rkt's own.",
	SeeAlso: []string{"rkt-run", "rkt-prepare", "rkt-net", "rkt-run-prepared", "rkt-fetch", "rkt-unit",
		"rkt-list", "rkt-stop"},
	Front: true,
	Setup: func(*cli.Flags) cli.Run { return nil },
	Verbs: []cli.Verb{
		{Name: "run", Summary: Run.Summary},
		of("fetch"), of("prepare"), of("run-prepared"), of("net"), of("enter"), of("cp"), of("kill"), of("logs"),
		of("attach"), of("list"),
		of("status"), of("stats"), of("cat-manifest"), of("stop"),
		{Name: "rm", Summary: "remove pods that have exited"},
		of("gc"), of("export"), of("image"), of("volume"), of("metadata"), of("unit"), of("update"),
		of("config"), of("trust"),
		of("doctor"),
		{Name: "rollback", Summary: "go back to the images that a service had before its last update"},
		{Name: "completion", Summary: "print completion of these command lines for bash, zsh or fish"},
		{Name: "version", Summary: "print versions"},
		{Name: "help", Summary: "print this text, or a command's"},
	},
	First: func(ctx context.Context, p *cli.Process) (bool, error) { return true, front(ctx, p) },
}

// of is the command that a program is.
func of(name string) cli.Verb { return cli.Verb{Name: name, Summary: cli.Summary("rkt-" + name)} }

// aliases are the verbs that are another program's.
var aliases = map[string]string{"rm": "gc", "rollback": "update", "metadata-service": "metadata"}

func front(ctx context.Context, p *cli.Process) error {
	if slices.Equal(p.Args, []string{"--version"}) { // no flag with a variable: $RKT_VERSION is somebody's already
		p.Args = []string{"version"}
	}
	fs := cli.NewFlags(p.Name).FlagSet
	global, own, words, err := sortFlags(fs, p.Args)
	if err != nil {
		return err
	}
	if err := cli.ParseFlags(fs, global); err != nil {
		return err
	}
	p.Unsetenv("RKT_NET") // set by hand, it would reach programs that the user did not mean
	if err := export(p, fs); err != nil {
		return err
	}
	if len(words) == 0 {
		p.Say("missing command")
		return errors.Join(flag.ErrHelp, cli.ExitStatus(2)) // rkt's
	}
	verb, args := complete(words[0]), append(own, words[1:]...)
	switch verb {
	case "help":
		if len(args) == 0 {
			return flag.ErrHelp
		}
		verb, args = args[0], []string{"--help"}
	case "version":
		return version(ctx, p)
	}
	switch verb {
	case "completion":
		return completion(p, args)
	case "run", "run-prepared":
		p.Args = args
		command := map[string]*cli.Command{"run": Run, "run-prepared": RunPrepared}[verb]
		return cli.ExitStatus(command.Execute(ctx, p))
	case "rm":
		if os.Geteuid() != 0 {
			return cli.ErrUnprivileged
		}
		if len(args) == 0 { // rkt-gc without a pod is another thing
			return fmt.Errorf("rm: no pod given (rkt help rm shows how)")
		}
		args = append([]string{"--must-exist"}, args...)
	case "rollback":
		args = append([]string{"--rollback"}, args...)
	}
	if alias, ok := aliases[verb]; ok {
		verb = alias
	}
	if hint, ok := others[verb]; ok {
		return fmt.Errorf("unknown command %q for \"rkt\"; %s", verb, hint)
	}
	program, err := cli.Sibling("rkt-" + verb)
	if err != nil || strings.ContainsAny(verb, "/.") || verb == "" {
		return noCommand(verb)
	}
	return cli.Exec(program, append([]string{program}, args...), p.Environ())
}

// sortFlags sorts a command line into the global flags before the command's name, the command's own
// flags there, and what follows.
func sortFlags(fs *flag.FlagSet, args []string) (global, own, words []string, err error) {
	all := cli.Known(append(cli.Programs(), "", "app", "rkt run")...)
	flags, words, err := cli.Leading(all, cli.JoinNet(args))
	if err != nil {
		return nil, nil, nil, err
	}
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for len(flags) > 0 {
		n, err := cli.FlagWords(all, flags)
		if err != nil {
			return nil, nil, nil, err
		}
		name, _, _ := strings.Cut(strings.TrimLeft(flags[0], "-"), "=")
		if isHelp := all.Lookup(name) == nil; fs.Lookup(name) != nil || isHelp && len(words) == 0 {
			global = append(global, flags[:n]...)
		} else {
			own = append(own, flags[:n]...)
		}
		flags = flags[n:]
	}
	return global, own, words, nil
}

// verbs are rkt 1.30's commands, and those of the toolkit, as one types them.
func verbs() []string {
	verbs := []string{"run", "rm", "help", "version", "completion", "metadata-service"}
	for _, program := range cli.Programs() {
		verbs = append(verbs, strings.TrimPrefix(program, "rkt-"))
	}
	slices.Sort(verbs)
	return verbs
}

// complete returns the one command that begins with the word, as rkt did, or the word.
func complete(word string) string {
	var found []string
	for _, verb := range verbs() {
		if verb == word {
			return word
		}
		if word != "" && strings.HasPrefix(verb, word) {
			found = append(found, verb)
		}
	}
	if _, isOther := others[word]; len(found) == 1 && !isOther {
		return found[0]
	}
	return word
}

// noCommand is the error for a command that there is not one of. The words are rkt's, for scripts.
func noCommand(verb string) error {
	switch near := spelling.Near(verb, verbs()); {
	case near == verb:
		return fmt.Errorf("rkt-%s, the program of \"rkt %s\", is neither beside rkt nor in $PATH; install all of rkt",
			verb, verb)
	case near != "":
		return fmt.Errorf("unknown command %q for \"rkt\"; did you mean %s?", verb, near)
	}
	return fmt.Errorf("unknown command %q for \"rkt\" (rkt help lists them)", verb)
}
