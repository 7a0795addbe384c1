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
  attach         connect the terminal, or pipes, with an app that runs
  list           list pods
  status         tell the state of a pod, or wait for its end
  cat-manifest   print a pod's manifest
  stop           ask pods to end
  rm             remove pods that have ended
  gc             remove pods that ended a while ago
  export         make an image of a pod that has ended
  image          list, show, export, verify and remove images
  metadata       serve appc's metadata to pods
  unit           print a service's unit file that runs a pod
  config         print the configuration
  trust          trust a key that images are signed with
  completion     print completion of these command lines for bash
  version        print versions
  help           this text, or a command's

Global flags, before or after COMMAND:
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
	fs, g := p.Flags()
	if err := p.Parse(fs, g, p.Args); err != nil {
		return err
	}
	p.Args = fs.Args()
	os.Unsetenv("RKT_NET") // set by hand, it would reach programs that the user did not mean
	if err := export(fs); err != nil {
		return err
	}
	if len(p.Args) == 0 {
		return fmt.Errorf("no command given (rkt help lists them)")
	}
	verb, args := p.Args[0], p.Args[1:]
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
		return runChain(ctx, p, g.Dir, verb, args)
	case "rm":
		if len(args) == 0 { // rkt-gc without a pod is another thing
			return fmt.Errorf("rm: no pod given (rkt help rm shows how)")
		}
		args = append([]string{"--must-exist"}, args...)
	}
	if alias, ok := aliases[verb]; ok {
		verb = alias
	}
	if strings.ContainsAny(verb, "/.") || verb == "" {
		return fmt.Errorf("%q: no such command (rkt help lists them)", verb)
	}
	program, err := cli.Sibling("rkt-" + verb)
	if err != nil {
		return fmt.Errorf("%q: no such command (rkt help lists them)", verb)
	}
	return cli.Exec(program, append([]string{program}, args...), os.Environ())
}
