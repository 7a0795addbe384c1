// Rkt is the front of the toolkit: the command line of rkt 1.30.
//
//	rkt [GLOBAL FLAGS] COMMAND [ARGS …]
//
// A command is a program: "rkt gc" is rkt-gc, found beside rkt or in $PATH, and rkt becomes it. The global flags are passed on as
// RKT_* variables. "rkt run" is the chain of rkt-prepare (which runs rkt-fetch for an image that is not in the store), rkt-net add
// and rkt-run-prepared, which it becomes.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
)

//go:embed completion.bash
var bashCompletion string

// version is set by the build.
var version = "devel"

const usage = `Usage: rkt [GLOBAL FLAGS] COMMAND [ARGS ...]

Runs application containers as plain processes, without a daemon.

Commands (each is a program of its own: "rkt help COMMAND" tells more):
  run            fetch, prepare, give a network, and become the pod
  fetch          put an image into the store
  prepare        make a pod out of images
  run-prepared   become a prepared pod
  net            give a pod its network, check it, take it away
  enter          run a command in a running pod
  cp             copy files out of an app, or into it
  kill           send a signal to an app
  logs           show what apps have printed
  attach         connect the terminal, or pipes, with an app that runs
  list           list pods
  status         tell the state of a pod, or wait for its end
  cat-manifest   print a pod's manifest
  stop           ask pods to end
  rm             remove pods that have ended
  gc             remove pods that ended a while ago
  export         make an image of a pod that has ended
  image          list, show, export, verify and remove images
  volume         list and remove named volumes
  metadata       serve appc's metadata to pods
  unit           print a service's unit file that runs a pod
  config         print the configuration
  trust          trust a key that images are signed with
  completion     print completion of these command lines for bash
  version        print versions
  help           this text, or a command's

Global flags (these and a command's own may stand before or after COMMAND):
  --dir=DIR                 where images and pods are (default /var/lib/rkt)
  --insecure-options=LIST   checks to leave out: image, tls, http, pubkey, ondisk,
                            capabilities, paths, seccomp, all-fetch, all-run, all
  --local-config=DIR        the administrator's configuration (default /etc/rkt)
  --system-config=DIR       the vendor's (default /usr/lib/rkt)
  --user-config=DIR         a third one, which wins
  --trust-keys-from-https   accept signing keys found over HTTPS without asking
  --debug                   say more on standard error
  --version                 the same as the command version; alone
`

func main() { cli.Main("rkt", usage, front) }

// aliases are the verbs that are another program's.
var aliases = map[string]string{"rm": "gc", "metadata-service": "metadata"}

func front(ctx context.Context, p *cli.Process) error {
	if slices.Equal(p.Args, []string{"--version"}) { // no flag with a variable: $RKT_VERSION is somebody's already
		p.Args = []string{"version"}
	}
	fs, _ := p.Flags()
	global, own, words, err := sortFlags(fs, p.Args)
	if err != nil {
		return err
	}
	if err := cli.ParseFlags(fs, global); err != nil {
		return err
	}
	os.Unsetenv("RKT_NET") // set by hand, it would reach programs that the user did not mean
	if err := export(fs); err != nil {
		return err
	}
	if len(words) == 0 {
		p.Say("missing command")
		_, err := fmt.Fprint(p.Stdout, usage)
		return errors.Join(err, cli.ExitStatus(2)) // rkt's
	}
	verb, args := complete(words[0]), append(own, words[1:]...)
	switch verb {
	case "help":
		if len(args) == 0 {
			_, err := fmt.Fprint(p.Stdout, usage)
			return err
		}
		verb, args = args[0], []string{"--help"}
	case "version":
		_, err := fmt.Fprintf(p.Stdout, "rkt Version: %s\nappc Version: %s\nGo Version: %s\nGo OS/Arch: %s/%s\nFeatures: -TPM +SDJOURNAL\n",
			version, appcVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	}
	switch verb {
	case "completion":
		if len(args) != 1 || args[0] != "bash" {
			return fmt.Errorf("completion: the one shell that is known is bash (rkt completion bash)")
		}
		_, err := fmt.Fprint(p.Stdout, bashCompletion)
		return err
	case "run", "run-prepared":
		return runChain(ctx, p, verb, args)
	case "rm":
		if os.Geteuid() != 0 {
			return cli.ErrUnprivileged
		}
		if len(args) == 0 { // rkt-gc without a pod is another thing
			return fmt.Errorf("rm: no pod given (rkt help rm shows how)")
		}
		args = append([]string{"--must-exist"}, args...)
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
	return cli.Exec(program, append([]string{program}, args...), os.Environ())
}

// sortFlags sorts a command line into the global flags before the command's name, the command's own flags there, and what follows.
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

// others are commands that rkt had or Docker has, and what to type instead.
var others = map[string]string{
	"exec":        "to run a command in a pod: rkt enter POD COMMAND",
	"app":         "a pod is made once, with all its apps: rkt run IMAGE --- IMAGE",
	"api-service": "no daemon answers: rkt list --format=json shows the pods",
	"fly":         "fly is a stage1 image of rkt's, and no command",
	"ps":          "to list pods: rkt list",
	"pull":        "to get an image: rkt fetch IMAGE",
	"images":      "to list images: rkt image list",
	"rmi":         "to remove an image: rkt image rm IMAGE",
	"inspect":     "to see all of a pod: rkt cat-manifest POD, rkt status POD --format=json-pretty",
	"start":       "to start a prepared pod: rkt run-prepared POD; a service: systemctl start UNIT",
	"restart":     "a pod runs once: rkt run makes a new one; a service: systemctl restart UNIT",
	"wait":        "to wait until a pod has exited: rkt status --wait POD",
	"login":       "credentials are in files: /etc/rkt/auth.d, or what docker login writes",
	"stats":       "to see what pods use: systemd-cgtop",
	"build":       "rkt builds no images: buildah, docker and umoci do, and rkt run oci:DIR takes them",
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

// noCommand is the error for a command that there is none of. The words are rkt's, for scripts.
func noCommand(verb string) error {
	if near := cli.Near(verb, verbs()); near != "" {
		return fmt.Errorf("unknown command %q for \"rkt\"; did you mean %s?", verb, near)
	}
	return fmt.Errorf("unknown command %q for \"rkt\" (rkt help lists them)", verb)
}
