package stage1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"golang.org/x/sys/unix"
)

// Flavor is a way to run a prepared pod: what its PID 1 is, how that comes to be, and how it is
// found, asked to stop and cleaned up after. docs/stage1.md has what each method promises. The
// order is that of a pod's life.
type Flavor interface {
	// Name is the word in the file stage1/flavor of its pods.
	Name() string
	// Features are what its pods can do.
	Features() Features
	// Usable tells what this host lacks for pods of the flavor; nil is nothing. It is asked before
	// anything is made for a pod.
	Usable() error

	// Prepare says what a pod's directory has for the flavor. It reads and writes nothing: the same
	// pod makes the same tree.
	Prepare(Spec) (*Tree, error)
	// Lay gives a pod that is being prepared the programs that it has besides its apps, which pods
	// may share, and returns what is to be mounted for that.
	Lay(p *poddir.Pod) ([]fstab.Bind, error)

	// Start decides what the process becomes that is about to run a pod, and writes what is known
	// only now. It is called once, by the holder of the pod's lock; where it or what follows fails,
	// the pod is prepared as before, and may be started again.
	Start(*Start) (*Process, error)

	// Init is the process ID of the pod's PID 1, given that of what Start's process has become, or
	// 0 if there is none yet.
	Init(supervisor int) int
	// Root is the path of an app's root as the pod's PID 1 has it.
	Root(app string) string
	// Processes are those of an app, by the pod's PID 1, the oldest first. Each has the app's root.
	Processes(init int, app string) []int
	// Main is the process of an app to which signals go that are meant for the app, or 0 if it has
	// none.
	Main(init int, app string) int
	// Group is the directory of the cgroup that all processes of an app are in, or below, or of the
	// pod if app is "".
	Group(init int, app string) (string, error)
	// Stop is the signal by which the pod's PID 1 is asked to end the pod in order, however many
	// ask, and reports whether it would take it now.
	Stop(init int) (signal unix.Signal, takes bool)

	// Ready reports whether a pod is ready, or has been. It is an error if that will never be
	// known.
	Ready(dir *poddir.Reader) (bool, error)
	// Health is what is known of an app's health checks, of an app that has ended only if they
	// ended it; ok is whether it is checked and the caller may know.
	Health(p *poddir.Pod, dir *poddir.Reader, app string) (state HealthState, ok bool)
	// Log is where the log of a pod is, and what of it is of one app, "" for all.
	Log(p *poddir.Pod, app string) Journal

	// Release removes what a pod that has ended, or never started, has left outside of its
	// directory, and processes that live on. The caller holds the pod's lock. It can be called
	// again.
	Release(ctx context.Context, p *poddir.Pod, log *slog.Logger) error
	// Sweep removes what is left of pods whose directories are gone, and what none of the pods
	// needs.
	Sweep(ctx context.Context, pods poddir.Pods, log *slog.Logger) error
}

// Features are what pods of a flavor can do. What is asked for in vain is an error of rkt-prepare,
// or of the program that asks.
type Features struct {
	Apps    bool // more than one app
	Users   bool // users of their own
	Network bool // a network of their own
	Attach  bool // attaching to apps
	Health  bool // health checks
	Limits  bool // limits of CPU, memory and the like
	Log     bool // a log of their own
}

// Spec is a pod as rkt-prepare has settled it.
type Spec struct {
	UUID     string
	Apps     []App
	Limits   Isolation // of all apps together
	Shm      uint64    // size of /dev/shm in bytes; 0 is the flavor's own
	Stage2   string    // path of rkt-stage2
	Attacher string    // path of rkt-attach; "" if there is none
}

// Check refuses a pod that asks for more than there is.
func (f Features) Check(flavor string, s Spec) error {
	lacks := func(app, what string) error {
		if app != "" {
			what = fmt.Sprintf("app %q: %s", app, what)
		}
		return fmt.Errorf("%s: pods of flavor %s do not have that", what, flavor)
	}
	if len(s.Apps) > 1 && !f.Apps {
		return lacks("", "more than one app")
	}
	for _, a := range s.Apps {
		switch {
		case a.Attachable() && !f.Attach:
			return lacks(a.Name, "attaching")
		case a.Health != nil && !f.Health:
			return lacks(a.Name, "a health check")
		case a.Resources != Resources{} && !f.Limits:
			return lacks(a.Name, "limits")
		}
	}
	return nil
}

// Tree is what a pod's directory has for a flavor. Names are relative to the pod's directory.
type Tree struct {
	Dirs   []File // made first, in this order
	Files  []File
	Binds  []fstab.Bind             // for the file "mounts"
	Mounts map[string][]specs.Mount // by app: what it has of the pod besides what every app has
}

// File is a file, or a directory, of a pod's directory.
type File struct {
	Name string
	Mode fs.FileMode
	Text []byte
}

// Journal is where journalctl(1) finds the log of a pod.
type Journal struct {
	// Dir is of the pod's directory, with journal files; it may not be there yet. "" is the host's
	// journal.
	Dir   string
	Match []string // arguments that choose the lines; nil is none
}

// Flavors are those that a program has.
type Flavors []Flavor

// Named is the flavor of a name.
func (f Flavors) Named(name string) (Flavor, error) {
	var names []string
	for _, flavor := range f {
		if flavor.Name() == name {
			return flavor, nil
		}
		names = append(names, flavor.Name())
	}
	slices.Sort(names)
	return nil, fmt.Errorf("there is no flavor %q here, only %s", name, strings.Join(names, ", "))
}

// Default is the flavor of pods for which none is chosen, and of those that an older rkt has
// prepared, which do not say.
const Default = "host"

// Of is the flavor of a pod.
func (f Flavors) Of(p *poddir.Pod) (Flavor, error) {
	text, err := p.ReadFile(poddir.FlavorFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	flavor, err := f.Named(FlavorName(string(text)))
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	return flavor, nil
}

// FlavorName is the name of a flavor, by the text of a pod's poddir.FlavorFile, or "" if there is
// none. A power cut leaves an empty file of a pod that was being prepared.
func FlavorName(text string) string { return cmp.Or(strings.Trim(text, "\x00\n"), Default) }
