// Package config is the program rkt-config.
package config

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/config"
)

// Command is rkt-config.
var Command = &cli.Command{
	Name:     "rkt-config",
	Summary:  "print the configuration",
	Synopsis: []string{"[FLAGS]"},
	Text: `
Prints the configuration of rkt's own files (auth.d, paths.d, stage1.d) as JSON:
the effective, merged configuration. It has passwords and tokens in it.`,
	Details: `
The files are *.json in auth.d, paths.d and stage1.d of /usr/lib/rkt, /etc/rkt and
the directory of --user-config; what is in a later one takes precedence. Each
entry that is printed could be a file itself.`,
	Examples: []cli.Example{
		{Line: "rkt config", Text: "Print the merged configuration."},
	},
	Files: []cli.File{
		{Path: "/usr/lib/rkt/auth.d, /etc/rkt/auth.d", Text: "credentials of servers and registries"},
		{Path: "/usr/lib/rkt/paths.d, /etc/rkt/paths.d", Text: "where the data directory is"},
		{Path: "/usr/lib/rkt/stage1.d, /etc/rkt/stage1.d", Text: "rkt's choice of a stage1 image"},
	},
	SeeAlso: []string{"rkt"},
	Setup:   setup,
}

func setup(flags *cli.Flags) cli.Run {
	flags.NoDir = true
	var pretty bool
	flags.BoolVar(&pretty, "pretty-print", true, "=false: print the JSON on one line")
	return func(_ context.Context, p *cli.Process) error { return run(p, flags, pretty) }
}

func run(p *cli.Process, flags *cli.Flags, pretty bool) error {
	g := flags.Global
	if flags.NArg() > 0 {
		return fmt.Errorf("%q: there are no operands (--help tells more)", flags.Arg(0))
	}
	text, err := config.Print(g.Dir, g.SystemConfig, g.LocalConfig, g.UserConfig)
	if err != nil {
		return err
	}
	return p.PrintJSON(json.RawMessage(text), pretty)
}
