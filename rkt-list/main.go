// Rkt-list lists pods.
//
//	rkt-list [FLAGS]
//
// The table and the JSON are those of rkt 1.30.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod/status"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

const usage = `Usage: rkt-list [FLAGS]

Lists pods: the UUID, its apps and their images, the state, when it was made and
started, and the addresses. Those of a pod that has ended, as long as it has
them, are in the JSON only.

Flags:
  --full               whole UUIDs and times, and image IDs
  --no-legend          no line of headings
  --wide               also the pod's name, forwarded ports, and of each app the exit
                       status and the state of its health check
  --fields=NAME,...    these columns: uuid, name (the pod's), app, imagename, imageid,
                       exitstatus, health, ports, state, created, started, networks
  --format=FORMAT      text (default), json, or json-pretty

Flags of every program: --dir=DIR (default /var/lib/rkt), --insecure-options=LIST,
--local-config=DIR, --system-config=DIR, --user-config=DIR, --debug, --help.
`

func main() { cli.Main("rkt-list", usage, list) }

func list(_ context.Context, p *cli.Process) error {
	fs, g := p.Flags()
	t := table{now: time.Now()}
	var format, fields string
	fs.BoolVar(&t.full, "full", false, "")
	fs.BoolVar(&t.wide, "wide", false, "")
	fs.BoolVar(&t.noLegend, "no-legend", false, "")
	fs.StringVar(&format, "format", "text", "")
	fs.StringVar(&fields, "fields", "", "")
	if err := p.ParseAnywhere(fs, g, p.Args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q: takes no operands", fs.Arg(0))
	}
	if err := t.choose(fields); err != nil {
		return err
	}
	json := strings.HasPrefix(format, "json")
	entries, unread := status.All(poddir.In(g.Dir), status.Want{Names: json || t.has("name"), Ends: json || t.has("exitstatus"),
		Live: json || t.has("health") || t.has("ports")})
	if len(entries) == 0 && unread != nil {
		return unread // and no headings of nothing
	}
	switch format {
	case "text", "":
		return errors.Join(t.write(p.Stdout, entries), unread)
	case "json", "json-pretty":
		return errors.Join(p.PrintJSON(entries, format == "json-pretty"), unread)
	}
	return fmt.Errorf("--format=%s: is none of text, json, json-pretty", format)
}
