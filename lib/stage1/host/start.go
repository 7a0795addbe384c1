package host

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/bus"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/inotify"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/machined"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
)

// starting is a pod that is about to start, and what has been decided of it.
type starting struct {
	*stage1.Start
	former  bool // an older rkt prepared the pod: its units say all of it
	nspawn  nspawn
	machine machine
	slaves  []slave
	bus     io.Closer // a connection that counts until the exec; nil is none
	argv    []string
	env     []string
}

// Start has the process become systemd-nspawn.
func (Flavor) Start(s *stage1.Start) (*stage1.Process, error) {
	start := &starting{Start: s, former: isFormer(s)}
	if err := start.decide(); err != nil {
		if start.bus != nil {
			start.bus.Close()
		}
		return nil, err
	}
	return &stage1.Process{Program: "systemd-nspawn", Argv: start.argv, Env: start.env,
		Mounts: start.isSlave, Placed: start.placed, Leave: start.leave}, nil
}

// isFormer reports whether a rkt prepared the pod that had no rkt-stage2.
func isFormer(s *stage1.Start) bool {
	return slices.ContainsFunc(s.Apps, func(a *stage1.Starting) bool { return a.Prepared == nil })
}

// decide decides everything, and writes the units that are settled only now.
func (s *starting) decide() error {
	scope, limited, err := s.limitTasks()
	if err != nil {
		return err
	}
	if err := s.strictly(limited); err != nil {
		return err
	}
	if err := clearDropIns(s.Pod); err != nil {
		return err
	}
	if err := s.tellFormer(); err != nil {
		return err
	}
	if s.Interactive {
		if err := s.giveTerminal(); err != nil {
			return err
		}
	}
	env, err := s.activate()
	if err != nil {
		return err
	}
	env, notify, err := s.notifications(env)
	if err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	if err := s.reserve(); err != nil {
		return err
	}
	return s.tell(env, slices.Concat(notify, scope))
}

// tell decides what systemd-nspawn is told, besides options.
func (s *starting) tell(env, options []string) error {
	if s.machine.Former = s.former; !s.former {
		if err := s.announce(); err != nil {
			return err
		}
	}
	output, err := s.writeOutput()
	if err != nil {
		return err
	}
	rlimits, err := place.Raise(s.Start)
	if err != nil {
		return fmt.Errorf("pod %s: %w", s.Pod.UUID, err)
	}
	if line := s.unheard(env); line != "" {
		s.Warn(line)
	}
	binds := s.placeSlaves()
	s.machine.Options = slices.Concat(s.machine.Options, options, output, rlimits, binds)
	if s.Label != nil {
		s.machine.Options = append(s.machine.Options, "--selinux-apifs-context="+s.Label.String())
	}
	if !s.machine.KeepUnit {
		s.machine.Options = append(s.machine.Options, place.Devices(s.Devices).Properties()...)
	}
	if s.machine.OwnJournalLink() {
		if err := linkJournal(s.Pod); err != nil {
			return fmt.Errorf("pod %s: journal: %w", s.Pod.UUID, err)
		}
	}
	s.argv = append(s.nspawn.command, arguments(s.machine)...)
	s.env = s.environment(env)
	return nil
}

// reserve has the pod have what others could take away from it: its place at systemd-machined, its
// name there, inotify instances, and a connection of the system bus.
func (s *starting) reserve() (err error) {
	uuid := s.Pod.UUID
	if s.machine.Register && s.machine.KeepUnit {
		if err := machined.ReleaseUnit(context.Background(), systemd.Unit()); err != nil {
			return fmt.Errorf("pod %s: %w", uuid, err)
		}
	}
	if err := inotify.Promise(uuid); err != nil {
		return fmt.Errorf("pod %s: %w", uuid, err)
	}
	if !s.machine.Register {
		return nil
	}
	if s.bus, err = bus.Reserve(bus.Socket); err != nil {
		return fmt.Errorf("pod %s: %w", uuid, err)
	}
	if s.machine.Machine, err = place.NameMachine(s.Pod); err != nil {
		return fmt.Errorf("pod %s: %w", uuid, err)
	}
	return nil
}

// tellFormer tells the apps of a pod that an older rkt prepared what they are to know of the
// metadata service.
func (s *starting) tellFormer() error {
	for _, a := range s.Apps {
		for _, v := range a.Final.Environment {
			if a.Prepared != nil || !strings.HasPrefix(v, "AC_METADATA_URL=") {
				continue
			}
			u := section("Service", "Environment="+v)
			if err := u.dropIn(s.Pod, a.Name+".service", "metadata.conf"); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle finds the program that the process becomes, and what it is told.
func (s *starting) settle() (err error) {
	if s.nspawn, err = findNspawn(s.Pod); err != nil {
		return err
	}
	options, err := s.Pod.ReadFile(poddir.OptionsFile)
	if err != nil {
		return err
	}
	ids := ""
	if s.Users != nil {
		ids = s.Users.String()
	}
	version, err := systemdVersion(s.nspawn.file)
	if err != nil {
		return err
	}
	s.machine = machine{
		UUID:     s.Pod.UUID,
		Version:  version,
		Register: place.CanRegister(),
		KeepUnit: place.KeepUnit(),
		Hostname: s.Hostname,
		Users:    ids,
		Terminal: s.Interactive && place.IsTerminal(s.Stdin),
		Options:  strings.FieldsFunc(string(options), func(r rune) bool { return r == '\n' }),
	}
	return nil
}

// environment is systemd-nspawn's.
func (s *starting) environment(env []string) []string {
	env = dumb(env)
	if !s.former || s.Unfiltered { // the pod's own filter denies what those of systemd-nspawn do
		env = append(env, "SYSTEMD_SECCOMP=0")
	}
	if s.HostIPC {
		env = append(env, "SYSTEMD_NSPAWN_SHARE_NS_IPC=yes")
	}
	if s.Writable {
		env = append(env, "SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes")
	}
	return s.nspawn.environment(env)
}

// dumb is env for a terminal that understands no escape sequences. From 256 on systemd-nspawn and
// the pod's systemd write some wherever the output of the pod goes: they tint a terminal's
// background, set its title, and ask it for its size and colors; an app could read the answers. An
// app's own TERM does not come from here (see giveTerminal).
func dumb(env []string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return strings.HasPrefix(kv, "TERM=") })
	return append(env, "TERM=dumb")
}

// placed is Process.Placed.
func (s *starting) placed() error {
	fail := func(err error) error { return fmt.Errorf("pod %s: %w", s.Pod.UUID, err) }
	if s.Users != nil {
		err := s.Users.As(func() error { // systemd-nspawn would try so as a user that can own nothing here
			return os.MkdirAll(s.Pod.Path(journalDir(s.Pod)), 0o755)
		})
		if err != nil {
			return err
		}
	}
	if s.former {
		if err := closeHost(s.Pod, s.argv, s.Users != nil); err != nil {
			return fail(err)
		}
	}
	if err := place.PickGroup(s.Pod, s.machine.KeepUnit); err != nil {
		return err
	}
	if err := s.filterDevices(); err != nil {
		return fail(err)
	}
	if s.Interactive && !place.IsTerminal(s.Stdin) {
		if err := feed(s.Pod, s.Stdin); err != nil {
			return fail(fmt.Errorf("standard input: %w", err))
		}
	}
	place.IgnoreReload(s.Stdin)
	return nil
}

// leave is Process.Leave.
func (s *starting) leave() error {
	if err := nameStream(s.Pod); err != nil { // after all that this program says itself
		return err
	}
	if !s.former { // whose systemd-nspawn is the host's
		if err := leaveHost(s.Pod, s.Users != nil, s.slaves, s.argv, s.env); err != nil {
			return err
		}
	}
	runtime.KeepAlive(s.bus)
	return nil
}

// isSlave is Process.Mounts.
func (s *starting) isSlave(b fstab.Bind, a *stage1.Starting) bool {
	return isSlave(b, a, s.Users != nil)
}
