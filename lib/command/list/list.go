// Package list is the program rkt-list.
package list

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod/status"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
)

// Command is rkt-list.
var Command = &cli.Command{
	Name:     "rkt-list",
	Summary:  "list pods",
	Synopsis: []string{"[FLAGS]"},
	Text: `
Lists pods: the UUID, the apps and their images, the state, when the pod was made
and started, and its addresses. Addresses still held by an exited pod appear only
in the JSON output.`,
	Details: `
The table and the JSON are those of rkt 1.30.`,
	Examples: []cli.Example{
		{Line: "rkt list --wide", Text: "List pods with their names, forwarded ports and exit statuses."},
		{Line: "rkt list --no-legend --full --fields=uuid,state", Text: "List UUIDs and states, for a script."},
	},
	SeeAlso: []string{"rkt-status", "rkt-cat-manifest", "rkt-image"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	t := table{now: time.Now()}
	var fields string
	var format cli.Format
	fs.BoolVar(&t.full, "full", false, "whole UUIDs and times, and image IDs")
	fs.BoolVar(&t.noLegend, "no-legend", false, "omit the header line")
	fs.BoolVar(&t.wide, "wide", false, "also the pod's name, forwarded ports, and of each app the exit status and "+
		"the state of its health check")
	fs.StringVar(&fields, "fields", "", "NAME,...: these columns: uuid, name (the pod's), app, imagename, imageid, "+
		"exitstatus, health, ports, state, created, started, networks")
	fs.FormatVar(&format, []status.Pod(nil))
	return func(_ context.Context, p *cli.Process) error { return list(p, fs, t, format, fields) }
}

func list(p *cli.Process, fs *cli.Flags, t table, format cli.Format, fields string) error {
	if fs.NArg() > 0 {
		return fmt.Errorf("%q: takes no operands", fs.Arg(0))
	}
	if err := t.choose(fields); err != nil {
		return err
	}
	json := format.JSON()
	entries, unread := status.All(poddir.In(fs.Global.Dir), status.Want{Names: json || t.has("name"), Ends: json ||
		t.has("exitstatus"),
		Live: json || t.has("health") || t.has("ports"), Flavor: json, Flavors: flavor.All()})
	if len(entries) == 0 && unread != nil {
		return unread // and no headings of nothing
	}
	if json {
		return errors.Join(p.PrintFormat(entries, format), unread)
	}
	return errors.Join(t.write(p.Stdout, entries), unread)
}
