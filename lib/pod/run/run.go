// Package run starts a prepared pod: it mounts what the pod needs where the host cannot see it, and the process becomes
// systemd-nspawn. Nothing here takes longer for a larger image, and nothing of the toolkit stays in memory.
package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/mds"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/bus"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/inotify"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/machined"
	"golang.org/x/sys/unix"
)

// Options are what is chosen when a pod starts, not when it is prepared.
type Options struct {
	Hostname    string // "" is rkt-UUID
	Interactive bool   // the app gets the terminal
	Env         []string
	Strict      bool              // a limit that can't be enforced is an error
	Unfiltered  bool              // without systemd-nspawn's own filter of system calls
	Metadata    bool              // registered with the metadata service
	HostIPC     bool              // in the host's IPC namespace
	Writable    bool              // /proc and /sys without read-only and masked parts
	Warn        func(line string) // told of what is odd and does not keep the pod from starting
	Leave       func() error      // called last; an error keeps the process from becoming the pod
	Log         *slog.Logger      // told of each decision

	Stdin, Stdout *os.File                          // the process's
	Look          func(name string) (string, error) // finds another program of the toolkit
}

// term is the caller's $TERM.
func (o Options) term() string {
	for _, v := range o.Env {
		if term, ok := strings.CutPrefix(v, "TERM="); ok {
			return term
		}
	}
	return ""
}

// Become turns the process into the pod. It returns only on failure, and then the pod is prepared as before. The one descriptor
// that the pod's systemd-nspawn inherits besides 0 to 2 and those of socket activation is the pod's lock.
func Become(p *poddir.Pod, o Options) error {
	runtime.LockOSThread() // the mount namespace is the thread's, and the thread that calls exec(2) passes it on
	lock, err := p.Lock()
	if errors.Is(err, durable.ErrLocked) {
		return fmt.Errorf("pod %s: is running, or another program works on it", p.UUID)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	given, err := readGiven()
	if err != nil {
		return err
	}
	if state := p.StateHeld(); !state.May(poddir.Running) {
		if state == poddir.AbortedPrepare {
			return fmt.Errorf("pod %q is not prepared: its preparation was aborted; rkt-gc removes it", p.UUID)
		}
		return fmt.Errorf("pod %q is not prepared: it has run already, and a pod runs once; prepare a new one", p.UUID)
	}
	if o.Hostname != "" && !validHostname(o.Hostname) {
		return fmt.Errorf("--hostname=%q: no host name: at most 64 letters, digits, dashes and dots", o.Hostname)
	}
	scope, limited, err := limitTasks(p)
	if err != nil {
		return err
	}
	if err := strictly(p, o, limited); err != nil {
		return err
	}
	if err := clearDropIns(p); err != nil {
		return err
	}
	apps, err := readApps(p, o.Hostname, given)
	if err != nil {
		return err
	}
	users, warning, err := settleUsers(p, apps, o)
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	defer users.close()
	if err := readSecrets(apps, o.Env); err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if err := chooseProfiles(apps); err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if o.Interactive {
		if err := giveTerminal(p, apps, o); err != nil {
			return err
		}
	}
	if err := os.Remove(p.Path(poddir.MetadataFile)); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a start that failed
		return err
	}
	if o.Metadata {
		if err := register(p, apps); err != nil {
			return fmt.Errorf("pod %s: --mds-register: %w", p.UUID, err)
		}
	}
	env, ignored, err := activate(p, o.Env)
	if err != nil {
		return err
	}
	for _, line := range ignored {
		o.Warn(line)
	}
	env, options, err := notifications(p, apps, env, o.Look)
	if err != nil {
		return err
	}
	former, err := isFormer(p)
	if err != nil {
		return err
	}
	nspawn, start, err := settle(p, o, users)
	if err != nil {
		return err
	}
	if err := setParameters(p, apps, o); err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if start.Register && start.KeepUnit {
		if err := machined.ReleaseUnit(context.Background(), systemd.Unit()); err != nil {
			return fmt.Errorf("pod %s: %w", p.UUID, err)
		}
	}
	if err := inotify.Promise(p.UUID); err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if start.Register {
		connection, err := bus.Reserve(bus.Socket)
		if err != nil {
			return fmt.Errorf("pod %s: %w", p.UUID, err)
		}
		if connection != nil { // held until the exec: others that start at the same time count it
			defer connection.Close()
		}
		if start.Machine, err = nameMachine(p); err != nil {
			return fmt.Errorf("pod %s: %w", p.UUID, err)
		}
	}
	if start.Former = former; !former {
		if err := announce(p, apps); err != nil {
			return err
		}
	}
	output, err := writeOutput(p, o)
	if err != nil {
		return err
	}
	rlimits, err := given.raise(apps)
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if users == nil { // whose root may raise limits, and lower OOM scores
		rlimits = nil
	} else if err := allowScores(apps); err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	devices, err := readDevices(p, apps)
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if line := unheard(p, env); line != "" {
		o.Warn(line)
	}
	if warning == "" && users == nil {
		warning = hostsRoot(apps)
	}
	if warning != "" { // not of a start that fails for another reason
		o.Warn(warning)
	}
	slaves, binds, err := slaves(p, apps, users != nil)
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	start.Options = slices.Concat(start.Options, options, scope, output, rlimits, binds)
	if !start.KeepUnit {
		start.Options = append(start.Options, devices.properties()...)
	}
	if start.OwnJournalLink() {
		if err := linkJournal(p); err != nil {
			return fmt.Errorf("pod %s: journal: %w", p.UUID, err)
		}
	}
	if err := writeConfigs(p, apps); err != nil {
		return err
	}
	argv := append(nspawn.command, stage1.Arguments(start)...)
	if err := overlay.Private(); err != nil {
		return err
	}
	if users == nil {
		err = mountAll(p, apps, o, nil)
	} else {
		err = mountShifted(p, apps, o, users)
	}
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if former {
		if err := closeHost(p, argv, users != nil); err != nil {
			return fmt.Errorf("pod %s: %w", p.UUID, err)
		}
	}
	if err := unix.Chdir(p.Dir()); err != nil {
		return fmt.Errorf("%s: %w", p.Dir(), err)
	}
	if err := pickGroup(p, start.KeepUnit); err != nil {
		return err
	}
	if err := filterDevices(p, devices, usesTun(apps), start.KeepUnit, o); err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if o.Interactive && !isTerminal(o.Stdin) {
		if err := feed(p, o.Stdin); err != nil {
			return fmt.Errorf("pod %s: standard input: %w", p.UUID, err)
		}
	}
	if err := os.WriteFile(p.Path(poddir.PIDFile), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o640); err != nil {
		return err
	}
	if err := durable.WriteFile(p.Path(poddir.StartedFile), nil, 0o640); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(lock.Fd(), unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("%s: %w", p.Dir(), err)
	}
	o.Log.Debug("becomes systemd-nspawn", "pod", p.UUID, "own-users", users != nil, "argv", argv)
	dir, err := os.Open(p.Dir())
	if err != nil {
		return err
	}
	defer dir.Close()
	err = becomeNspawn(p, o, former, users != nil, slaves, argv, environment(env, o, former, nspawn))
	for _, file := range []string{poddir.StartedFile, poddir.PIDFile} { // no path may lead there any more
		err = errors.Join(err, unix.Unlinkat(int(dir.Fd()), file, 0))
	}
	return err
}

// becomeNspawn gives up, step by step, what the process has of the host, and executes systemd-nspawn. It returns only
// on failure.
func becomeNspawn(p *poddir.Pod, o Options, former, users bool, slaves []slave, argv, env []string) error {
	if err := nameStream(p); err != nil {
		return err
	}
	if err := enterNetwork(p); err != nil {
		return err
	}
	filter, err := readFilter(p, users)
	if err != nil {
		return err
	}
	ignoreReload(o.Stdin)
	if err := o.Leave(); err != nil {
		return err
	}
	if !former { // whose systemd-nspawn is the host's
		if err := leaveHost(p, users, slaves, argv, env); err != nil {
			return err
		}
	}
	if !o.Unfiltered {
		if err := loadFilter(filter); err != nil { // last: the process needs none of the calls that it denies
			return err
		}
	}
	return fmt.Errorf("%s: %w", argv[0], unix.Exec(argv[0], argv, env))
}

// environment is systemd-nspawn's. former is whether an older rkt prepared the pod.
func environment(env []string, o Options, former bool, n nspawn) []string {
	env = dumb(env)
	if !former || o.Unfiltered { // the pod's own filter denies what those of systemd-nspawn do
		env = append(env, "SYSTEMD_SECCOMP=0")
	}
	if o.HostIPC {
		env = append(env, "SYSTEMD_NSPAWN_SHARE_NS_IPC=yes")
	}
	if o.Writable {
		env = append(env, "SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes")
	}
	return n.environment(env)
}

// dumb is env for a terminal that understands no escape sequences. From 256 on systemd-nspawn and the pod's systemd
// write some wherever the output of the pod goes: they tint a terminal's background, set its title, and ask it for its
// size and colors; an app could read the answers. An app's own TERM does not come from here (see giveTerminal).
func dumb(env []string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return strings.HasPrefix(kv, "TERM=") })
	return append(env, "TERM=dumb")
}

// register has the metadata service know the pod, and the apps the service.
func register(p *poddir.Pod, apps []*app) error {
	url, err := mds.Register(p)
	if err != nil {
		return err
	}
	const name = "AC_METADATA_URL"
	for _, a := range apps {
		a.final.Environment = append(a.final.Environment, name+"="+url)
		if a.prepared == nil {
			if err := dropIn(p, a.name+".service", "metadata.conf", "[Service]\nEnvironment="+name+"="+url+"\n"); err != nil {
				return err
			}
		}
	}
	return nil
}

// payload is the control group that systemd-nspawn makes for a pod that stays in the unit it is started in.
const payload = "payload"

// pickGroup sees to it that the pod's control group is its own. In a unit that has had a pod before, as one that runs
// "rkt run" several times, what is left of that one's group belongs to its users: the pod's systemd could not use it.
func pickGroup(p *poddir.Pod, keepUnit bool) error {
	switch {
	case !systemd.Booted():
		return ownGroup(p)
	case keepUnit:
		if err := cgroup.RemoveEmpty(payload); err != nil {
			return fmt.Errorf("pod %s: %w", p.UUID, err)
		}
	}
	return nil
}

// ownGroup moves the process into a control group of its own where no systemd has put it into one: the pod's systemd takes the group
// that it is in for its own, and would take the processes of another pod there for its own as well.
func ownGroup(p *poddir.Pod) error {
	parents, err := cgroup.Own()
	if err != nil {
		return err
	}
	dirs, err := noteGroups(p, parents)
	if err != nil {
		return err
	}
	if err = cgroup.Make(dirs...); err == nil {
		err = cgroup.Enter(dirs, os.Getpid())
	}
	if err != nil {
		return fmt.Errorf("control group: %w", err)
	}
	return nil
}

// noteGroups notes, for rkt-gc, that groups of the pod's are about to be made below some others, and returns their directories. Those of
// a start that was killed, maybe in another group, stay noted.
func noteGroups(p *poddir.Pod, parents []string) (dirs []string, err error) {
	earlier, err := p.ReadFile(poddir.CgroupFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, parent := range parents {
		dirs = append(dirs, filepath.Join(parent, stage1.MachineName(p.UUID)))
	}
	note := string(earlier) + strings.Join(dirs, "\n") + "\n"
	return dirs, durable.WriteFile(p.Path(poddir.CgroupFile), []byte(note), 0o600)
}

// nameMachine has the pod be known to systemd-machined by the name that it was given, if that can be a machine's and is free, and notes
// that; else it returns "". The name of a pod is free of other pods of the same data directory only.
func nameMachine(p *poddir.Pod) (string, error) {
	if err := os.Remove(p.Path(poddir.MachineFile)); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a start that failed
		return "", err
	}
	name := p.Name()
	unit, err := p.ReadFile(poddir.UnitFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if !machined.ValidName(name) || strings.HasPrefix(string(unit), name+" ") { // the latter is no name that was given
		return "", nil
	}
	free, err := machined.Claim(context.Background(), name)
	if err != nil || !free {
		return "", err
	}
	return name, durable.WriteFile(p.Path(poddir.MachineFile), []byte(name+"\n"), 0o600)
}

// settle finds the program that the process becomes, and what it is told.
func settle(p *poddir.Pod, o Options, users *shifted) (nspawn nspawn, start stage1.Start, err error) {
	if err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}); errors.Is(err, unix.ENOSYS) {
		return nspawn, start, errors.New("the kernel has no mount_setattr(2); pods need Linux 5.12 or newer")
	}
	nspawn, err = findNspawn(p)
	if err != nil {
		return nspawn, start, err
	}
	if _, err := namespace(p); err != nil {
		return nspawn, start, err
	}
	options, err := p.ReadFile(poddir.OptionsFile)
	if err != nil {
		return nspawn, start, err
	}
	ids := ""
	if users != nil {
		ids = users.String()
	}
	version, err := systemdVersion(nspawn.file)
	if err != nil {
		return nspawn, start, err
	}
	start = stage1.Start{
		UUID:     p.UUID,
		Version:  version,
		Register: systemd.CanRegister(),
		KeepUnit: keepUnit(),
		Hostname: o.Hostname,
		Users:    ids,
		Terminal: o.Interactive && isTerminal(o.Stdin),
		Options:  strings.FieldsFunc(string(options), func(r rune) bool { return r == '\n' }),
	}
	return nspawn, start, nil
}

// keepUnit tells whether systemd-nspawn stays in the unit that it is started in. A service is a unit of the pod already; elsewhere
// systemd-nspawn asks systemd for a scope.
func keepUnit() bool {
	return !systemd.CanRegister() || strings.HasSuffix(systemd.Unit(), ".service")
}

// namespace is the path of the pod's network namespace, "" for the host's.
func namespace(p *poddir.Pod) (string, error) {
	text, err := p.ReadFile(poddir.NetnsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("pod %s: has no network yet; first run rkt-net add [--net=host|none|NAME] %[1]s", p.UUID)
	}
	if err != nil {
		return "", err
	}
	path := strings.TrimSuffix(string(text), "\n")
	if path == "host" {
		return "", nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil || st.Type != unix.NSFS_MAGIC {
		return "", fmt.Errorf("pod %s: its network namespace %s is gone; run rkt-net del and rkt-net add", p.UUID, path)
	}
	return path, nil
}
