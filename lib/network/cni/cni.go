// Package cni attaches pods to networks by CNI plugins and detaches them. What is intended is
// written to the pod's net/ before the first plugin is called, so that whatever a plugin did can be
// undone from the files alone.
package cni

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Options say where configuration and plugins are.
type Options struct {
	ConfigDirs []string     // net.d directories, the first wins
	PluginDirs []string     // the first that has a plugin wins
	Stderr     io.Writer    // what plugins write there; may be nil
	Called     func(Call)   // told of each call of a plugin; may be nil
	Force      bool         // Del forgets what can't be undone
	Warn       func(string) // told of what Del forgets, and of keys that nobody here knows
	Names      network.Names
}

// Attacher attaches one pod to networks, detaches it, and looks at what came of it: Add, Del, Check
// and Repair.
type Attacher struct {
	Options
	pod *poddir.Pod
}

// New returns an Attacher of a pod.
func New(p *poddir.Pod, o Options) *Attacher { return &Attacher{o, p} }

// plugins returns the callers of plugins that are in dirs. In netDir they note what they do; it is
// "" for calls of which nothing can last.
func (a *Attacher) plugins(netDir string, dirs []string) *plugins {
	return &plugins{uuid: a.pod.UUID, netDir: netDir, dirs: dirs, stderr: a.Stderr, called: a.Called, warn: a.Warn}
}

func (a *Attacher) warn(line string) {
	if a.Warn != nil {
		a.Warn(line)
	}
}

// netDir is the pod's net/.
func (a *Attacher) netDir() string { return a.pod.Path(poddir.NetDir) }

// newDir is net/ in the making.
const newDir = network.Dir + ".new"

// busy is the error for a pod whose lock somebody else holds.
func busy(p *poddir.Pod) error {
	state, err := p.State()
	if err != nil {
		return err
	}
	switch state {
	case poddir.Running:
		return fmt.Errorf("pod %s: is running; stop it first", p.UUID)
	case poddir.Preparing:
		return fmt.Errorf("pod %s: is still being prepared", p.UUID)
	}
	return fmt.Errorf("pod %s: another program works on it", p.UUID)
}

// oneLine is errors.Join with semicolons.
func oneLine(errs []error) error {
	var joined error
	for _, err := range errs {
		switch {
		case joined == nil:
			joined = err
		case err != nil:
			joined = fmt.Errorf("%w; %w", joined, err)
		}
	}
	return joined
}

func unique(list []string) []string {
	var once []string
	for _, s := range list {
		if !slices.Contains(once, s) {
			once = append(once, s)
		}
	}
	return once
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (a *attachment) lastResult() (types.Result, error) {
	result, err := create.CreateFromBytes(a.Result)
	if err != nil {
		return nil, err
	}
	return result.GetAsVersion(a.list.CNIVersion)
}
