// Package stats is the program rkt-stats.
package stats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/host/printable"
	"github.com/rkt-toolkit/rkt/lib/pod/stats"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
)

// Command is rkt-stats.
var Command = &cli.Command{
	Name:     "rkt-stats",
	Summary:  "show what running pods and their apps use",
	Synopsis: []string{"[FLAGS] [POD ...]"},
	Text: `
Prints a line for each running pod, or for those that are named, with all that is in
it, and one for each of its apps: CPU time, memory now and at most, the limit of
memory, processes and threads, bytes from and to disks, bytes that the pod's network
has received and sent, and how many processes were killed since memory was short. "-"
stands where the host does not count: the cgroup lacks a controller, or the network is
the host's.

` + cli.PodOperand,
	Examples: []cli.Example{
		{Line: "rkt stats", Text: "Show all running pods."},
		{Line: "rkt stats --format=json web", Text: "Show the pod web, as numbers for a program."},
	},
	SeeAlso: []string{"rkt-list", "rkt-status"},
	Setup:   setup,
}

func setup(fs *cli.Flags) cli.Run {
	fs.Root = true
	var format cli.Format
	var noLegend bool
	fs.FormatVar(&format, []stats.Pod(nil))
	fs.BoolVar(&noLegend, "no-legend", false, "omit the header line")
	return func(_ context.Context, p *cli.Process) error {
		found, err := read(p, poddir.In(fs.Global.Dir), fs.Args())
		if err != nil && len(found) == 0 {
			return err
		}
		if format.JSON() {
			return errors.Join(p.PrintFormat(found, format), err)
		}
		return errors.Join(write(p, found, noLegend), err)
	}
}

// read looks at the pods that are named, or at all that run. One that cannot be read does not hide
// the others.
func read(p *cli.Process, pods poddir.Pods, operands []string) ([]stats.Pod, error) {
	found := []stats.Pod{}
	var errs []error
	if len(operands) == 0 {
		all, err := pods.All()
		if err != nil {
			return found, err
		}
		for _, pod := range all {
			if state, err := pod.State(); err != nil || state != poddir.Running {
				continue
			}
			s, err := readOne(pod)
			if state, now := pod.State(); err != nil && (now != nil || state != poddir.Running) {
				// it has exited meanwhile
				continue
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			found = append(found, s)
		}
	}
	for _, operand := range operands {
		pod, err := pods.Find(operand, poddir.Self(p.Getenv, p.PID))
		if err == nil {
			var s stats.Pod
			if s, err = readOne(pod); err == nil {
				found = append(found, s)
			}
		}
		errs = append(errs, err)
	}
	return found, errors.Join(errs...)
}

func readOne(p *poddir.Pod) (stats.Pod, error) {
	pod, err := running.Of(p, flavor.All())
	if err != nil {
		return stats.Pod{}, err
	}
	return stats.Read(pod)
}

// write prints the table.
func write(p *cli.Process, found []stats.Pod, noLegend bool) error {
	tw := tabwriter.NewWriter(p.Stdout, 0, 8, 2, ' ', 0)
	row := func(cells ...string) {
		for i, c := range cells {
			cells[i] = printable.Line(c)
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	if !noLegend {
		row("UUID", "NAME", "APP", "CPU", "MEMORY", "PEAK", "LIMIT", "TASKS", "READ", "WRITTEN", "RECEIVED",
			"SENT", "OOM")
	}
	for _, pod := range found {
		u := pod.Usage
		row(pod.UUID[:8], pod.Name, "", seconds(u.CPU), size(u.Memory), size(u.MemoryPeak), size(u.MemoryMax),
			number(u.Tasks), size(u.Read), size(u.Written),
			size(pod.Received), size(pod.Sent), number(u.OOMKills))
		for _, a := range pod.Apps {
			u := a.Usage
			row("", "", a.Name, seconds(u.CPU), size(u.Memory), size(u.MemoryPeak), size(u.MemoryMax), number(u.Tasks),
				size(u.Read), size(u.Written),
				"", "", number(u.OOMKills))
		}
	}
	return tw.Flush()
}

func number(n *uint64) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

// seconds is a CPU time in nanoseconds, as "1.25s".
func seconds(n *uint64) string {
	if n == nil {
		return "-"
	}
	return time.Duration(*n).Round(10 * time.Millisecond).String()
}

// size is a number of bytes, as "1.5MiB".
func size(n *uint64) string {
	if n == nil {
		return "-"
	}
	return printable.Size(int64(*n))
}
