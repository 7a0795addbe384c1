// Package run starts a prepared pod: it mounts what the pod needs where the host cannot see it, and
// the process becomes what the pod's flavor says. Nothing here takes longer for a larger image, and
// nothing of the toolkit stays in memory.
package run

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/host/selinux"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/mds"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
	"golang.org/x/sys/unix"
)

// Options are what is chosen when a pod starts, not when it is prepared.
type Options struct {
	Hostname    string // "" is rkt-UUID
	Interactive bool   // the app gets the terminal
	Env         []string
	Strict      bool              // a limit that can't be enforced is an error
	Unfiltered  bool              // without filters of system calls
	Metadata    bool              // registered with the metadata service
	HostIPC     bool              // in the host's IPC namespace
	Writable    bool              // /proc and /sys without read-only and masked parts
	Warn        func(line string) // told of what is odd and does not keep the pod from starting
	Leave       func() error      // called last; an error keeps the process from becoming the pod
	Log         *slog.Logger      // told of each decision

	Stdin, Stdout *os.File                          // the process's
	Look          func(name string) (string, error) // finds another program of the toolkit
	Flavors       stage1.Flavors
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

// Become turns the process into the pod. It returns only on failure, and then the pod is prepared
// as before. The one descriptor that the pod's first process inherits besides 0 to 2 and those of
// socket activation is the pod's lock.
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
	flavor, err := o.Flavors.Of(p)
	if err != nil {
		return err
	}
	s := &starting{pod: p, o: o}
	if s.apps, err = readApps(p, o.Hostname, given); err != nil {
		return err
	}
	defer func() { s.users.close() }()
	if err := s.settle(); err != nil {
		return err
	}
	shared, err := s.shared()
	if err != nil {
		return err
	}
	defer func() {
		if back := place.Return(p); back != nil {
			o.Log.Debug("stays in the pod's cgroup", "error", back)
		}
	}()
	process, err := flavor.Start(shared)
	if err != nil {
		return err
	}
	if err := s.finish(); err != nil {
		return err
	}
	if err := s.mount(process); err != nil {
		return err
	}
	return s.become(process, lock)
}

// starting is a pod on its way to its start.
type starting struct {
	pod     *poddir.Pod
	o       Options
	apps    []*app
	users   *shifted         // nil is the host's
	label   *selinux.Context // of what is mounted for it; nil is none
	warning string           // not told of a start that fails for another reason
}

// settle decides what is the same in every flavor.
func (s *starting) settle() (err error) {
	p, o, apps := s.pod, s.o, s.apps
	if s.users, s.warning, err = settleUsers(p, apps, o); err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if err := readSecrets(apps, o.Env); err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if err := chooseProfiles(apps); err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if s.label, err = chooseLabels(p, apps, s.users); err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if o.Interactive {
		if err := giveTerminal(p, apps, o); err != nil {
			return err
		}
	}
	// of a start that failed
	if err := os.Remove(p.Path(poddir.MetadataFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if o.Metadata {
		if err := register(p, apps); err != nil {
			return fmt.Errorf("pod %s: --mds-register: %w", p.UUID, err)
		}
	}
	return nil
}

// shared is what a flavor is told.
func (s *starting) shared() (*stage1.Start, error) {
	p, o := s.pod, s.o
	env, sockets, ignored, err := activate(p, o.Env)
	if err != nil {
		return nil, err
	}
	for _, line := range ignored {
		o.Warn(line)
	}
	if err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}); errors.Is(err, unix.ENOSYS) {
		return nil, errors.New("the kernel has no mount_setattr(2); pods need Linux 5.12 or newer")
	}
	network, err := namespace(p)
	if err != nil {
		return nil, err
	}
	if err := setParameters(p, s.apps, o); err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	binds, err := readMounts(p)
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	devices, err := readDevices(p, s.apps)
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	rules, err := devices.rules(usesTun(s.apps))
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	shared := &stage1.Start{Pod: p, Network: network, Sockets: sockets, Binds: binds, Devices: devices, Rules: rules,
		Label: s.label, Hostname: o.Hostname, Interactive: o.Interactive, Strict: o.Strict, Unfiltered: o.Unfiltered,
		HostIPC: o.HostIPC, Writable: o.Writable,
		Stdin: o.Stdin, Stdout: o.Stdout, Env: env, Look: o.Look, Warn: o.Warn, Log: o.Log}
	for _, a := range s.apps {
		shared.Apps = append(shared.Apps, a.Starting)
	}
	if s.users != nil {
		shared.Users = &s.users.Range
	}
	return shared, nil
}

// finish tells of what is odd, and writes the configurations of the apps, which the flavor has
// added to.
func (s *starting) finish() error {
	if err := checkAsked(s.apps); err != nil {
		return fmt.Errorf("pod %s: %w", s.pod.UUID, err)
	}
	if s.users != nil { // root of the host may lower OOM scores
		if err := allowScores(s.apps); err != nil {
			return fmt.Errorf("pod %s: %w", s.pod.UUID, err)
		}
	}
	if s.warning == "" && s.users == nil {
		s.warning = hostsRoot(s.apps)
	}
	if s.warning != "" {
		s.o.Warn(s.warning)
	}
	return writeConfigs(s.pod, s.apps)
}

// mount makes the pod's mounts, and has the flavor do what comes after them.
func (s *starting) mount(process *stage1.Process) error {
	if err := overlay.Private(); err != nil {
		return err
	}
	if s.users != nil {
		if err := shiftOver(s.pod, s.users); err != nil {
			return fmt.Errorf("pod %s: %w", s.pod.UUID, err)
		}
	}
	if err := s.mountAll(process.Mounts); err != nil {
		return fmt.Errorf("pod %s: %w", s.pod.UUID, err)
	}
	if err := unix.Chdir(s.pod.Dir()); err != nil {
		return fmt.Errorf("%s: %w", s.pod.Dir(), err)
	}
	return call(process.Placed)
}

func call(f func() error) error {
	if f == nil {
		return nil
	}
	return f()
}

// become records that the pod runs, and executes its first process, which has the lock.
func (s *starting) become(process *stage1.Process, lock *os.File) error {
	p := s.pod
	if err := os.WriteFile(p.Path(poddir.PIDFile), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o640); err != nil {
		return err
	}
	if err := durable.WriteFile(p.Path(poddir.StartedFile), nil, 0o640); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(lock.Fd(), unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("%s: %w", p.Dir(), err)
	}
	s.o.Log.Debug("becomes "+process.Program, "pod", p.UUID, "own-users", s.users != nil, "argv", process.Argv)
	dir, err := os.Open(p.Dir())
	if err != nil {
		return err
	}
	defer dir.Close()
	err = s.execute(process)
	for _, file := range []string{poddir.StartedFile, poddir.PIDFile} { // no path may lead there any more
		err = errors.Join(err, unix.Unlinkat(int(dir.Fd()), file, 0))
	}
	return err
}

// execute gives up, step by step, what the process has of the host, and executes the pod's first
// process. It returns only on failure.
func (s *starting) execute(process *stage1.Process) error {
	if err := enterNetwork(s.pod); err != nil {
		return err
	}
	filter, err := readFilter(s.pod, s.users != nil)
	if err != nil {
		return err
	}
	load := loadFilter
	if process.Filter != nil {
		load = func([]unix.SockFilter) error { return leaveKeyring() }
		if !s.o.Unfiltered {
			if err := process.Filter(filter); err != nil {
				return err
			}
		}
	}
	if err := s.o.Leave(); err != nil {
		return err
	}
	if err := call(process.Leave); err != nil {
		return err
	}
	if !s.o.Unfiltered {
		if err := load(filter); err != nil { // last: the process needs none of the calls that it denies
			return err
		}
	}
	return fmt.Errorf("%s: %w", process.Argv[0], unix.Exec(process.Argv[0], process.Argv, process.Env))
}

// giveTerminal has the pod's one app have the terminal.
func giveTerminal(p *poddir.Pod, apps []*app, o Options) error {
	if len(apps) != 1 {
		return fmt.Errorf("pod %s: interactive option only supports pods with one app, and this one has %d", p.UUID,
			len(apps))
	}
	final := &apps[0].Final
	final.Terminal = true
	if term := o.term(); term != "" {
		final.Environment = append(final.Environment, "TERM="+term)
	}
	return nil
}

// register has the metadata service know the pod, and the apps the service.
func register(p *poddir.Pod, apps []*app) error {
	url, err := mds.Register(p)
	if err != nil {
		return err
	}
	const name = "AC_METADATA_URL"
	for _, a := range apps {
		a.Final.Environment = append(a.Final.Environment, name+"="+url)
	}
	return nil
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
