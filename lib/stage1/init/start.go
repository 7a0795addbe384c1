package initflavor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/seccomp"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/machined"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/launcher"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// starting is a pod that is about to start.
type starting struct {
	*stage1.Start
	machine string            // its name at systemd-machined; "" if that is not there
	journal string            // the socket of the host's journal that its lines go to; "" for none
	console string            // the slave of the pod's terminal; "" for none
	process *stage1.Process   // what the process becomes
	limits  *stage1.PodLimits // of the pod
	planned []plan.Limit      // those, if somebody has asked for some

	controllers []string // that the groups below the pod's are to have
}

// Start has the process become the launcher.
func (Flavor) Start(s *stage1.Start) (*stage1.Process, error) {
	start := &starting{Start: s}
	fail := func(err error) (*stage1.Process, error) { return nil, fmt.Errorf("pod %s: %w", s.Pod.UUID, err) }
	if err := cgroup.MountUnified(groups); err != nil {
		return fail(err)
	}
	if err := start.check(); err != nil {
		return fail(err)
	}
	if err := start.nameMachine(); err != nil {
		return fail(err)
	}
	if err := start.writePlan(); err != nil {
		return fail(err)
	}
	if err := errors.Join(start.withoutFilter(), start.writeOutput()); err != nil {
		return fail(err)
	}
	if _, err := place.Raise(s); err != nil {
		return fail(err)
	}
	start.process = &stage1.Process{Program: "the launcher", Env: []string{"GOMAXPROCS=2"},
		Filter: start.giveFilter, Placed: start.placed, Leave: start.leave}
	return start.process, nil
}

// groups is where the cgroups of version 2 are on a host that has not mounted them.
const groups = "/run/rkt/cgroup"

// check refuses what pods of this flavor can't do.
func (s *starting) check() (err error) {
	if s.limits, err = stage1.ReadLimits(s.Pod); err == nil && s.limits == nil {
		err = errors.New("has no limits, not even none; prepare a new one")
	}
	if err == nil && isAsked(s.limits) {
		s.planned, err = s.planLimits()
	}
	return err
}

// nameMachine has the pod have a name at systemd-machined, and its unit no other pod.
func (s *starting) nameMachine() (err error) {
	if !place.CanRegister() {
		return nil
	}
	if place.KeepUnit() {
		if err := machined.ReleaseUnit(context.Background(), systemd.Unit()); err != nil {
			return err
		}
	}
	if s.machine, err = place.NameMachine(s.Pod); s.machine == "" {
		s.machine = stage1.PodName(s.Pod.UUID)
	}
	return err
}

// writePlan completes the plan of the pod's PID 1, and has apps say to it what they say by
// sd_notify(3).
func (s *starting) writePlan() error {
	root := s.Pod.Path(poddir.RootDir)
	p, err := plan.Read(root)
	if err != nil {
		return err
	}
	p.Hostname, p.HostIPC, p.Writable = s.Hostname, s.HostIPC, s.Writable
	if p.Hostname == "" {
		p.Hostname = stage1.PodName(s.Pod.UUID)
	}
	p.Users = 0
	if s.Users != nil {
		// The network is not theirs, so that it would mean nothing, as in flavor host.
		p.Users, p.Capabilities = s.Users.Base, p.Capabilities&^(1<<unix.CAP_NET_BIND_SERVICE)
	}
	p.MountLabel = ""
	if s.Label != nil {
		p.MountLabel = s.Label.String()
	}
	if s.Interactive && len(p.Apps[0].Streams) > 0 {
		return fmt.Errorf("app %q: --interactive gives it the terminal, and --stdin, --stdout or --stderr says "+
			"otherwise; give the one or the others", p.Apps[0].Name)
	}
	p.Terminal, p.Stdin = s.Interactive, s.Interactive && !place.IsTerminal(s.Stdin)
	p.Sockets, p.Limits, p.Machine = len(s.Sockets), s.planned, s.machine
	watchdog := s.watchdog()
	p.Watchdog, _ = strconv.ParseUint(watchdog, 10, 63)
	for i := range p.Apps {
		s.join(&p.Apps[i], watchdog)
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(root+plan.File, append(text, '\n'), 0o600)
}

// join completes what PID 1 is to know of an app, and what the app is to know of PID 1. watchdog is
// that of the host's unit, in microseconds; "" is none.
func (s *starting) join(app *plan.App, watchdog string) {
	app.Sockets = nil
	units := map[string][]stage1.Socket{}
	for _, socket := range s.Sockets {
		if socket.App == app.Name {
			units[socket.Name] = append(units[socket.Name], socket)
		}
	}
	for i, socket := range s.Sockets {
		if socket.App == app.Name {
			name := stage1.SocketName(units[socket.Name])
			app.Sockets = append(app.Sockets, plan.Socket{Name: name, Index: i})
		}
	}
	for _, a := range s.Apps {
		if a.Name != app.Name || !app.Notify {
			continue
		}
		a.Final.Notify = plan.NotifySocket(app.Name)
		if watchdog != "" {
			a.Final.Environment = append(a.Final.Environment, "WATCHDOG_USEC="+watchdog)
		}
	}
}

// watchdog is the unit's WatchdogSec=, in microseconds, or "".
func (s *starting) watchdog() string {
	for _, v := range s.Env {
		value, ok := strings.CutPrefix(v, "WATCHDOG_USEC=")
		if _, err := strconv.ParseUint(value, 10, 64); ok && err == nil {
			return value
		}
	}
	return ""
}

// hostJournal takes records (sd_journal_print(3)).
const hostJournal = "/run/systemd/journal/socket"

// writeOutput notes where what the apps print goes: where standard output goes. Only if that is the
// host's journal does the pod have its socket.
func (s *starting) writeOutput() error {
	output := streams.ToPlain
	if place.IsTerminal(s.Stdout) {
		output = streams.ToTerminal
	} else if out, err := journal.StdoutIsJournalStream(); err == nil && out {
		if _, err := os.Stat(hostJournal); err == nil {
			output, s.journal = streams.ToJournal, hostJournal
		}
	}
	if s.Interactive {
		output += " " + streams.Interactive
	}
	text := []byte(output + " " + streams.Direct + "\n")
	return os.WriteFile(s.Pod.Path(poddir.RootDir+streams.OutputFile), text, 0o600)
}

// giveFilter has each app get the pod's filter.
func (s *starting) giveFilter(filter []unix.SockFilter) error {
	var program []bpf.RawInstruction
	for _, i := range filter {
		program = append(program, bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	write := func() error {
		for _, a := range s.Apps {
			file := s.Pod.Path(poddir.AppConfig(a.Name, stage1.PodFilterFile))
			if err := os.WriteFile(file, seccomp.Marshal(program), 0o600); err != nil {
				return err
			}
		}
		return nil
	}
	if s.Users != nil {
		return s.Users.As(write)
	}
	return write()
}

// withoutFilter removes what an earlier start that failed has given.
func (s *starting) withoutFilter() error {
	for _, a := range s.Apps {
		err := os.Remove(s.Pod.Path(poddir.AppConfig(a.Name, stage1.PodFilterFile)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// placed is Process.Placed.
func (s *starting) placed() error {
	group, err := s.place()
	if err != nil {
		return err
	}
	notify, master := s.hear(), -1
	if s.Interactive {
		if master, err = s.openTerminal(); err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
	}
	place.IgnoreReload(s.Stdin)
	s.process.Argv = append([]string{launcher.Root + stage1.Stage2, launcher.Command,
		strconv.Itoa(group), strconv.Itoa(notify), strconv.Itoa(master)}, s.controllers...)
	return nil
}

// hear returns a descriptor on which the host's unit hears from the pod, or -1. It is connected
// before the process leaves the host's network, in which an abstract socket is.
func (s *starting) hear() int {
	address := ""
	for _, v := range s.Env {
		if value, ok := strings.CutPrefix(v, "NOTIFY_SOCKET="); ok {
			address = value
		}
	}
	if !filepath.IsAbs(address) && !strings.HasPrefix(address, "@") {
		return -1
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return -1
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: address}); err != nil {
		unix.Close(fd)
		s.Warn(fmt.Sprintf("NOTIFY_SOCKET=%s: nothing is told there: %v", address, err))
		return -1
	}
	return fd
}
