package prepare

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/selinux"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// SELinux is what --selinux= says of the pod's own pair of contexts. What is empty is as the host's
// policy has it.
type SELinux struct {
	Off   bool   // none, whatever the host has
	asked string // what was given that a host without SELinux can't do

	typ, fileType, level string
}

// Set reads a value of --selinux=, of which several may follow each other.
func (s *SELinux) Set(value string) (err error) {
	key, rest, _ := strings.Cut(value, ":")
	switch {
	case value == "auto":
		*s = SELinux{}
		return nil
	case value == "no" || value == "false" || value == "0" || value == "disable":
		*s = SELinux{Off: true}
		return nil
	case value == "yes" || value == "true" || value == "1":
	case key == "type":
		s.typ, err = rest, selinux.CheckName(rest)
	case key == "filetype":
		s.fileType, err = rest, selinux.CheckName(rest)
	case key == "level":
		s.level, err = rest, selinux.CheckLevel(rest)
	default:
		err = fmt.Errorf("%q is not one of auto, yes, no, type:TYPE, filetype:TYPE, level:LEVEL", value)
	}
	s.Off, s.asked = false, value
	return err
}

// labels are the contexts of a pod, and that of the files of images.
type labels struct {
	poddir.Labels
	image selinux.Context
}

// labelPod gives a pod contexts of its own, if the host has SELinux, and notes them. It returns nil
// for a pod that gets none.
func labelPod(p *poddir.Pod, pods poddir.Pods, o Options) (*labels, error) {
	s := o.SELinux
	if s.Off {
		return nil, nil
	}
	if !selinux.Enabled() {
		if s.asked != "" {
			return nil, fmt.Errorf("--selinux=%s: the host has no SELinux", s.asked)
		}
		return nil, nil
	}
	own, err := s.ofPolicy()
	if err == nil {
		err = chooseLevel(p, pods, &own.Labels, s.level)
	}
	if err != nil && s.asked != "" {
		return nil, fmt.Errorf("--selinux=%s: %w", s.asked, err)
	}
	if err != nil {
		o.Warn("apps have no SELinux context of their own, because " + err.Error() + "; ask for that with --selinux=no")
		return nil, os.RemoveAll(p.Path(poddir.LabelsFile))
	}
	return own, nil
}

// ofPolicy are the contexts of the host's policy for containers, without categories.
func (s SELinux) ofPolicy() (*labels, error) {
	policy, err := selinux.OfPolicy()
	if err != nil {
		return nil, err
	}
	l := &labels{poddir.Labels{Process: policy.Process, File: policy.File, Asked: s.asked != ""}, policy.Image}
	if s.typ != "" {
		l.Process.Type = s.typ
		if err := selinux.Check(l.Process); err != nil {
			return nil, err
		}
	}
	if s.fileType != "" {
		l.File.Type = s.fileType
		if err := selinux.Check(l.File); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// chooseLevel completes the contexts by the level that was asked for, or by a pair of categories
// that no other pod has, and notes them.
func chooseLevel(p *poddir.Pod, pods poddir.Pods, l *poddir.Labels, asked string) error {
	if asked == "" {
		return reserveCategories(p, pods, l, rand.IntN)
	}
	l.Process.Level, l.File.Level = asked, asked
	if err := selinux.Check(l.Process); err != nil {
		return err
	}
	return noteLabels(p, l)
}

func noteLabels(p *poddir.Pod, l *poddir.Labels) error {
	return os.WriteFile(p.Path(poddir.LabelsFile), []byte(l.String()), 0o640)
}

// attempts are more than it takes to find a free pair of half a million.
const attempts = 1000

// reserveCategories finds a pair that no other pod has. One that has exited keeps its, since files
// have it. Pairs are random, so that pods of another data directory, and containers of others,
// hardly ever have the same.
func reserveCategories(p *poddir.Pod, pods poddir.Pods, l *poddir.Labels, random func(n int) int) error {
	others := othersThan(p, levelOf)
	if err := others.read(pods); err != nil {
		return err
	}
	lowest := l.Process.Level
	for range attempts {
		level := lowest + ":" + selinux.Pair(random(selinux.Pairs))
		if exists(others.pods[level]) {
			continue
		}
		l.Process.Level, l.File.Level = level, level
		if err := noteLabels(p, l); err != nil {
			return err
		}
		if err := others.read(pods); err != nil {
			return err
		}
		if !exists(others.pods[level]) {
			return nil
		}
	}
	return errors.New("no pair of categories is free; rkt gc removes pods that have exited")
}

// levelOf is the level of a pod's files.
func levelOf(p *poddir.Pod) (string, bool) {
	l, err := p.Labels()
	if err != nil || l == nil {
		return "", false
	}
	return l.File.Level, true
}

// exists reports whether one of the pods has not been removed. Another that is being prepared may
// have taken another level meanwhile.
func exists(pods []*poddir.Pod) bool {
	for _, p := range pods {
		if _, err := os.Lstat(p.Dir()); err == nil {
			return true
		}
	}
	return false
}

// labelFiles gives the files of the pod that its apps write to the pod's context, and those of its
// images one that all apps may read: until Linux 6.18 the kernel asks for that, too, when a file in
// an overlay is mapped.
func (l *labels) labelFiles(p *poddir.Pod, images []*store.Image) error {
	if l == nil {
		return nil
	}
	for _, img := range images {
		for _, layer := range img.Layers {
			if err := selinux.EnsureTree(layer, l.image); err != nil && !errors.Is(err, fs.ErrNotExist) { // see Pod
				return err
			}
		}
	}
	written, err := filepath.Glob(filepath.Join(p.Path(poddir.AppOverlay("*")), "upper"))
	if err != nil {
		return err
	}
	volumes, err := filepath.Glob(p.Path(poddir.VolumesDir + "/*"))
	for _, dir := range append(written, volumes...) {
		if err == nil {
			err = selinux.SetTree(dir, l.File)
		}
	}
	return err
}

// labelShared gives a new volume, and what is in it, a context that the apps of all pods may use.
func (l *labels) labelShared(dir string) error {
	if l == nil {
		return nil
	}
	return selinux.SetTree(dir, shared(l.File))
}
