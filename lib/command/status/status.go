// Package status is the program rkt-status.
package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod/status"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
)

// Command is rkt-status.
var Command = &cli.Command{
	Name:     "rkt-status",
	Summary:  "show the state of a pod, or wait until it is ready or has exited",
	Synopsis: []string{"[FLAGS] POD"},
	Text: `
Prints what is known of a pod: state, uuid, name, created, started, ran (for how
long), networks, ports that are forwarded to it, selinux (the context of its apps,
if it has one of its own), of each app image-NAME, status-NAME (its state) and
health-NAME (starting, healthy, or failing:N after N failed checks), check-NAME for
each of the last five checks (its time, exit status and output), and of a pod
that was started pid, exited, stopped (if somebody has stopped it), and
app-NAME=STATUS for each app that has exited.

` + cli.PodOperand,
	Examples: []cli.Example{
		{Line: "rkt status --wait web", Text: "Wait until the pod has exited, and print the apps' exit statuses."},
		{Line: "rkt status --wait-ready=30s web",
			Text: "Wait until the pod is ready; after 30 seconds it is an error."},
	},
	SeeAlso: []string{"rkt-list", "rkt-logs", "rkt-stop"},
	Setup:   setup,
}

// wait is the value of --wait: a truth value, as rkt had it, or a time.
type wait struct {
	on    bool
	limit time.Duration // 0 is for ever
}

func (w *wait) IsBoolFlag() bool { return true }
func (w *wait) String() string   { return "" }

func (w *wait) Set(s string) (err error) {
	*w = wait{}
	if w.on, err = strconv.ParseBool(s); err == nil {
		return nil
	}
	if w.limit, err = time.ParseDuration(s); err != nil {
		return fmt.Errorf("%q is neither a truth value nor a time such as 10s", s)
	}
	w.on, w.limit = w.limit != 0, max(w.limit, 0)
	return nil
}

func setup(fs *cli.Flags) cli.Run {
	var w, alias, ready wait
	var uuidFile string
	var format cli.Format
	fs.Var(&w, "wait", "[=TIME]: first wait until the pod has exited, for TIME at most (no TIME, \"true\", or less "+
		"than 0: without limit)")
	fs.Var(&ready, "wait-ready", "[=TIME]: first wait until the pod is ready: every app runs, and those that call "+
		"sd_notify(3) have said READY=1. It is an error if the pod exits before, or is not ready after TIME")
	fs.Var(&alias, "wait-till-exited", "[=TIME]: the same as --wait")
	fs.FormatVar(&format, status.Pod{})
	fs.UUIDFile(&uuidFile)
	return func(_ context.Context, p *cli.Process) error { return tell(p, fs, w, alias, ready, format, uuidFile) }
}

func tell(p *cli.Process, fs *cli.Flags, w, alias, ready wait, format cli.Format, uuidFile string) error {
	if alias.on {
		w = alias
	}
	found, err := p.OnePod(poddir.In(fs.Global.Dir), fs.Args(), uuidFile)
	if err != nil {
		return err
	}
	var notReady error
	if ready.on {
		p.Log().Debug("waits for its apps", "pod", found.UUID, "limit", ready.limit)
		notReady = waitForReady(found, ready.limit)
	}
	if w.on {
		p.Log().Debug("waits for the end", "pod", found.UUID, "limit", w.limit)
		if err := waitFor(found, w.limit); err != nil {
			return err
		}
	}
	s, err := status.Read(found, flavor.All())
	if err != nil {
		return err
	}
	return errors.Join(show(p, found, s, format), notReady)
}

// show prints a status in one of the formats.
func show(p *cli.Process, of *poddir.Pod, s status.Pod, format cli.Format) error {
	if format.JSON() {
		return p.PrintFormat(s, format)
	}
	return write(p, of, s)
}

// waitFor blocks until the pod is not locked any more; a prepared one never was, and has not ended.
func waitFor(p *poddir.Pod, limit time.Duration) error {
	end := time.Now().Add(limit)
	for {
		state, err := p.State()
		if err != nil {
			return err
		}
		if state != poddir.Prepared && state != poddir.Running && state != poddir.Preparing ||
			limit > 0 && time.Now().After(end) {
			return nil
		}
		if limit == 0 && state == poddir.Running {
			if err := p.Wait(); err != nil {
				return err
			}
			continue
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// waitForReady blocks until the pod is ready. It returns an error if the pod has exited without
// having been ready, or is not ready in time.
func waitForReady(p *poddir.Pod, limit time.Duration) error {
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		state, ready, err := isReady(p)
		if err != nil || ready {
			return err
		}
		if state != poddir.Prepared && state != poddir.Preparing && state != poddir.Running {
			return fmt.Errorf("pod %s: has never been ready, and its state is: %s", p.UUID, state)
		}
		if limit > 0 && time.Now().After(end) {
			return fmt.Errorf("pod %s: is not ready after %s", p.UUID, limit)
		}
	}
}

// isReady reports a pod's state, and whether the pod is ready or has been before it exited.
func isReady(p *poddir.Pod) (poddir.State, bool, error) {
	state, err := p.State()
	if err != nil {
		return state, false, err
	}
	r, err := p.Open()
	if err != nil {
		return state, false, err
	}
	defer r.Close()
	f, err := flavor.All().Of(p)
	if err != nil {
		return state, false, err
	}
	ready, err := f.Ready(r)
	if err != nil && state == poddir.Running {
		return state, false, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	return state, ready, nil
}

func write(p *cli.Process, of *poddir.Pod, s status.Pod) error {
	lines := []string{"state=" + s.State, "uuid=" + s.UUID}
	if s.PodName != "" {
		lines = append(lines, "name="+s.PodName)
	}
	if s.Flavor != "" {
		lines = append(lines, "flavor="+s.Flavor)
	}
	if s.CreatedAt != nil {
		lines = append(lines, "created="+status.Time(s.CreatedAt))
	}
	if s.StartedAt != nil {
		lines = append(lines, "started="+status.Time(s.StartedAt))
	}
	if ran := s.Ran(time.Now()); ran > 0 {
		lines = append(lines, "ran="+ran.String())
	}
	if len(s.Networks) > 0 {
		lines = append(lines, "networks="+s.Addresses())
	}
	if len(s.Ports) > 0 {
		lines = append(lines, "ports="+strings.Join(s.Ports, ","))
	}
	if s.SELinux != "" {
		lines = append(lines, "selinux="+s.SELinux)
	}
	for _, a := range s.Apps {
		lines = append(lines, fmt.Sprintf("image-%s=%s", a.Name, a.ImageName),
			fmt.Sprintf("status-%s=%s", a.Name, a.State))
		if a.Health != "" {
			lines = append(lines, fmt.Sprintf("health-%s=%s", a.Name, a.Health))
		}
		for _, c := range a.Checks {
			lines = append(lines, fmt.Sprintf("check-%s=%s", a.Name, check(c)))
		}
	}
	if s.StartedAt != nil {
		pid, err := of.ReadFile(poddir.PIDFile)
		if err != nil {
			_, gone := of.State() // it may have been removed since
			return cmp.Or(gone, err)
		}
		lines = append(lines, "pid="+strings.TrimSpace(string(pid)),
			fmt.Sprintf("exited=%t", s.State != poddir.Running.String()))
	}
	if s.Stopped {
		lines = append(lines, "stopped=true")
	}
	for _, a := range s.Apps {
		if a.ExitCode != nil {
			lines = append(lines, fmt.Sprintf("app-%s=%d", a.Name, *a.ExitCode))
		}
	}
	for _, line := range lines {
		if err := p.PrintLine("%s", line); err != nil {
			return err
		}
	}
	return nil
}

// check is one line of a health check. What it has printed is an app's.
func check(c status.Check) string {
	line := fmt.Sprintf("%s status %d", time.Unix(0, c.Time).Format(time.DateTime), c.Status)
	if c.Startup {
		line += " (startup)"
	}
	if c.Output != "" {
		line += " " + strconv.QuoteToGraphic(strings.TrimSuffix(c.Output, "\n"))
	}
	return line
}
