// Rkt-config prints the configuration that rkt's own files hold, as JSON.
//
//	rkt-config [--pretty-print=false]
//
// The files are *.json in auth.d, paths.d and stage1.d of /usr/lib/rkt, /etc/rkt and the directory of --user-config; what is in a later one
// wins. Each entry that is printed could be a file itself. What is printed has the passwords and tokens of auth.d in it.
package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/config"
)

const usage = `Usage: rkt-config [FLAGS]

Prints the configuration of rkt's own files (auth.d, paths.d, stage1.d) as JSON:
what counts when all of them have been read. It has passwords and tokens in it.

Flags:
  --pretty-print=false   on one line

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST,
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help.
`

func main() { cli.Main("rkt-config", usage, run) }

func run(_ context.Context, p *cli.Process) error {
	flags, g := p.FlagsWithoutDir()
	var pretty bool
	flags.BoolVar(&pretty, "pretty-print", true, "")
	if err := p.ParseAnywhere(flags, g, p.Args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q: there are no operands (--help tells more)", flags.Arg(0))
	}
	text, err := config.Print(g.Dir, g.SystemConfig, g.LocalConfig, g.UserConfig)
	if err != nil {
		return err
	}
	return p.PrintJSON(json.RawMessage(text), pretty)
}
