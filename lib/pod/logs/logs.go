// Package logs shows what the apps of a pod have printed: it runs journalctl(1) on the pod's own
// journal, which is there from the pod's start until the pod is removed, wherever else the lines
// went.
package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/program"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// Options are what is to be shown of a pod's log.
type Options struct {
	App    string // "" is all apps
	Follow bool   // until the pod has exited
	Lines  string // the last ones only: a number; "" is all
	Output string // a format of journalctl; "" is journalctl's default
	Color  bool   // standard output is a terminal
	Env    []string
	Log    *slog.Logger

	Flavors stage1.Flavors
}

// pause is how often a condition is looked at that nothing tells of.
const pause = 50 * time.Millisecond

// Check refuses what journalctl would refuse only after it has printed something, or would take for
// something else.
func (o Options) Check() error {
	if o.Lines != "" {
		if _, err := strconv.ParseUint(o.Lines, 10, 31); err != nil {
			return fmt.Errorf("--lines=%s: not a number of lines", o.Lines)
		}
	}
	if strings.Trim(o.Output, "abcdefghijklmnopqrstuvwxyz-") != "" {
		return fmt.Errorf("--output=%s: not a format of journalctl, such as cat or json", o.Output)
	}
	return nil
}

// Command is the command line that shows the log of a pod without following it, and "" for a
// running pod that has no journal yet.
func Command(p *poddir.Pod, o Options) (argv []string, err error) {
	state, err := p.State()
	if err != nil {
		return nil, err
	}
	if state != poddir.Running && !state.Ended() {
		return nil, fmt.Errorf("pod %s: has no log: it has not been started (its state is: %s)", p.UUID, state)
	}
	apps, err := p.Apps()
	if err != nil {
		return nil, err
	}
	isAlone := len(apps) == 1
	if o.App != "" {
		i, err := p.ChooseApp(apps, o.App)
		if err != nil {
			return nil, err
		}
		apps = apps[i : i+1]
	}
	journalctl, err := program.Look("journalctl")
	if err != nil {
		return nil, fmt.Errorf("%w: the log of a pod is a journal of systemd's", err)
	}
	flavor, err := o.Flavors.Of(p)
	if err != nil {
		return nil, err
	}
	if !flavor.Features().Log {
		return nil, fmt.Errorf("pod %s: a pod of flavor %s has no log of its own; its output goes where it was started",
			p.UUID, flavor.Name())
	}
	app := ""
	if o.App != "" && !isAlone {
		app = apps[0]
	}
	journal := flavor.Log(p, app)
	if journal.Match == nil {
		return nil, fmt.Errorf("pod %s: has no log: its output went where it was started", p.UUID)
	}
	argv = []string{journalctl, "--quiet"}
	if journal.Dir != "" {
		err = p.CheckDirectory(journal.Dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		argv = append(argv, "--directory="+p.Path(journal.Dir))
	}
	if o.Output != "" {
		argv = append(argv, "--output="+o.Output)
	}
	return append(argv, journal.Match...), nil
}

// lines is Command's argv for the last lines only.
func lines(argv []string, n string) []string {
	if n == "" {
		return argv
	}
	return slices.Insert(slices.Clone(argv), 1, "--lines="+n)
}

// Show writes the log of a pod. With Follow it goes on until the pod has exited, and has written
// every line by then; journalctl alone would go on for ever.
func Show(ctx context.Context, p *poddir.Pod, o Options, out, complaints io.Writer) error {
	argv, err := Command(p, o)
	if err != nil {
		return err
	}
	for argv == nil && o.Follow { // it is starting
		if state, err := p.State(); err != nil || state != poddir.Running {
			return err
		}
		time.Sleep(pause)
		if argv, err = Command(p, o); err != nil {
			return err
		}
	}
	if argv == nil {
		return nil
	}
	j := journal{argv: argv, out: out, complaints: complaints, o: o}
	if state, err := p.State(); err != nil || state != poddir.Running || !o.Follow {
		return errors.Join(err, j.run(ctx, lines(argv, o.Lines), out))
	}
	return j.follow(ctx, p)
}

// journal is a journal that journalctl reads.
type journal struct {
	argv            []string
	out, complaints io.Writer
	o               Options
}

// command is a run of journalctl.
func (j journal) command(ctx context.Context, argv []string, out io.Writer) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, j.complaints
	cmd.Env = j.o.Env
	if j.o.Color {
		cmd.Env = append(slices.Clone(j.o.Env), "SYSTEMD_COLORS=yes")
	}
	j.o.Log.Debug("runs " + strings.Join(argv, " "))
	return cmd
}

func (j journal) run(ctx context.Context, argv []string, out io.Writer) error {
	if err := j.command(ctx, argv, out).Run(); err != nil {
		return fmt.Errorf("journalctl: %w", err)
	}
	return nil
}

// follow shows what is there, then what comes until the pod has exited, then what of this the
// second journalctl had not shown when it was ended: the third shows the same lines, and as many
// bytes of them are left out as were written.
func (j journal) follow(ctx context.Context, p *poddir.Pod) error {
	first := &cursor{out: j.out, silent: j.o.Lines == "0"}
	n := j.o.Lines
	if first.silent {
		n = "1"
	}
	argv := slices.Insert(slices.Clone(j.argv), 1, "--show-cursor")
	if err := j.run(ctx, lines(argv, n), first); err != nil {
		return err
	}
	at, err := first.end()
	if err != nil {
		return err
	}
	if at != "" {
		j.argv = slices.Insert(j.argv, 1, "--after-cursor="+at)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	live, stop := context.WithCancel(ctx)
	defer stop()
	counted := &counter{out: j.out}
	cmd := j.command(live, slices.Insert(slices.Clone(j.argv), 1, "--follow", "--no-tail"), counted)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("journalctl: %w", err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	select {
	case err := <-gone:
		return errors.Join(counted.err, fmt.Errorf("journalctl: %w", err))
	case err = <-ended:
	}
	lock, shared := durable.Share(p.Dir()) // so that nobody removes it meanwhile
	if shared != nil {                     // it is removed, with its journal
		time.Sleep(20 * pause)
	}
	stop()
	<-gone
	if shared != nil || err != nil || counted.err != nil {
		return errors.Join(ignoreRemoved(err), counted.err)
	}
	defer lock.Close()
	return j.run(ctx, j.argv, &skipper{out: j.out, n: counted.n})
}

// ignoreRemoved drops the error for a pod that is not there any more.
func ignoreRemoved(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, poddir.ErrNotFound) {
		return nil
	}
	return err
}
