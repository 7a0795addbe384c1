// Package status is what rkt-list and rkt-status tell of a pod, put together from the files of its
// directory.
package status

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// Time is a point in time as rkt prints it in full; n is in nanoseconds since 1970, and nil is "".
func Time(n *int64) string {
	if n == nil {
		return ""
	}
	return time.Unix(0, *n).Format("2006-01-02 15:04:05.999 -0700 MST")
}

// Addresses is rkt's form of a pod's networks: NAME:ip4=ADDRESS,…
func (p Pod) Addresses() string {
	var all []string
	for _, n := range p.Networks {
		all = append(all, n.String())
	}
	return strings.Join(all, ",")
}

// Pod is what is known of one pod. Its JSON is rkt's (api/v1), the times in nanoseconds since 1970.
type Pod struct {
	UUID      string            `json:"name"`                 // the pod's UUID
	PodName   string            `json:"pod_name,omitempty"`   // the name that --pod-name gave it; not in rkt
	State     string            `json:"state"`                // prepared, running, exited, …
	Flavor    string            `json:"flavor,omitempty"`     // of the pod: host or init; not in rkt
	Networks  []network.Network `json:"networks,omitempty"`   // those that it is in
	Ports     []string          `json:"ports,omitempty"`      // HOST/PROTOCOL->POD; not in rkt
	AppNames  []string          `json:"app_names,omitempty"`  // the names of all apps
	Apps      []App             `json:"apps,omitempty"`       // all apps
	CreatedAt *int64            `json:"created_at,omitempty"` // in nanoseconds since 1970
	StartedAt *int64            `json:"started_at,omitempty"` // in nanoseconds since 1970
	Stopped   bool              `json:"stopped,omitempty"`    // whether somebody has stopped it; not in rkt
	SELinux   string            `json:"selinux,omitempty"`    // the SELinux context of its apps; not in rkt

	UserAnnotations map[string]string `json:"user_annotations,omitempty"` // of --user-annotation
	UserLabels      map[string]string `json:"user_labels,omitempty"`      // of --user-label
}

// App is what is known of one app.
type App struct {
	Name       string  `json:"name"`                  // in its pod
	State      string  `json:"state"`                 // that of the pod, or exited
	CreatedAt  *int64  `json:"created_at,omitempty"`  // in nanoseconds since 1970
	StartedAt  *int64  `json:"started_at,omitempty"`  // in nanoseconds since 1970
	FinishedAt *int64  `json:"finished_at,omitempty"` // in nanoseconds since 1970
	ExitCode   *int    `json:"exit_code,omitempty"`   // the exit status, after its end
	Health     string  `json:"health,omitempty"`      // the state of its health check; not in rkt
	Checks     []Check `json:"checks,omitempty"`      // the last health checks, the newest last; not in rkt
	ImageID    string  `json:"image_id"`              // sha512-…
	ImageName  string  `json:"image_name,omitempty"`  // not in rkt
	Mounts     []Mount `json:"mounts,omitempty"`      // volumes that it has

	UserAnnotations map[string]string `json:"user_annotations,omitempty"` // of --user-annotation
	UserLabels      map[string]string `json:"user_labels,omitempty"`      // of --user-label
}

// Check is how a health check has ended.
type Check struct {
	Time    int64  `json:"time"`    // of its end, in nanoseconds since 1970
	Startup bool   `json:"startup"` // whether it is a check of the app's start
	Status  int    `json:"status"`  // exit status, 128+n for death by signal n
	Output  string `json:"output"`  // the start of what it has printed
}

// Mount is a volume in an app.
type Mount struct {
	Name          string `json:"name"`           // of the volume
	ContainerPath string `json:"container_path"` // where the app has it
	HostPath      string `json:"host_path"`      // what is mounted; "" for an empty volume
	ReadOnly      bool   `json:"read_only"`      // whether it is read-only
}

// mount is how a volume of the pod, or of the app alone, is told.
func mount(m *poddir.Manifest, name, path string, own *poddir.ManifestVolume) Mount {
	if own == nil {
		own = new(poddir.ManifestVolume)
		for _, v := range m.Volumes {
			if v.Name == name {
				*own = v
			}
		}
	}
	return Mount{Name: name, ContainerPath: path, HostPath: own.Source, ReadOnly: own.ReadOnly}
}

// parse reads a manifest.
func parse(text []byte) (*poddir.Manifest, error) {
	m, err := poddir.ParseManifest(text)
	if err == nil && m.Kind != "PodManifest" {
		err = fmt.Errorf("acKind is %q", m.Kind)
	}
	return m, err
}

// Read looks at a pod. It is pod.ErrNotFound when the pod goes away meanwhile.
func Read(p *poddir.Pod, flavors stage1.Flavors) (Pod, error) {
	return read(p, Want{Names: true, Ends: true, Labels: true, Live: true, Flavor: true, Flavors: flavors})
}

// Want is what of many pods is wanted, since each takes time.
type Want struct {
	Names bool // of the pods
	// how apps have ended, and what networks a pod that has ended still has; without it each app is
	// in the state of its pod
	Ends   bool
	Labels bool // SELinux contexts
	Live   bool // forwarded ports, and how healthy running apps are
	Flavor bool // how the pods are run

	Flavors stage1.Flavors // those that know about health
}

// flavor is that of a running pod, if it is of use.
func (w Want) flavor(p *poddir.Pod, state poddir.State) (stage1.Flavor, error) {
	if !w.Live || w.Flavors == nil || state != poddir.Running && !state.Ended() {
		return nil, nil
	}
	flavor, err := w.Flavors.Of(p)
	if err != nil && state.Ended() { // of which less is known
		return nil, nil
	}
	return flavor, err
}

// line is the content of a file of one line; "" if it can't be read.
func line(dir *poddir.Reader, file string) string {
	text, _ := dir.ReadFile(file)
	return strings.TrimSuffix(string(text), "\n")
}

// context is the SELinux context of a pod's apps; "" if they have none.
func context(dir *poddir.Reader) string {
	text, _ := dir.ReadFile(poddir.LabelsFile)
	labels, err := poddir.ParseLabels(string(text))
	if err != nil {
		return ""
	}
	return labels.Process.String()
}

func read(p *poddir.Pod, want Want) (Pod, error) {
	dir, err := p.Open()
	if err != nil {
		return Pod{}, err
	}
	defer dir.Close()
	text, at, unread := dir.Manifest()
	facts, err := dir.Look(at)
	if err != nil {
		return Pod{}, err
	}
	e := Pod{UUID: p.UUID, State: facts.State.String(), CreatedAt: nanoseconds(facts.Manifest),
		StartedAt: nanoseconds(facts.Started)}
	if want.Names {
		e.PodName = line(dir, poddir.NameFile)
	}
	if errors.Is(unread, os.ErrNotExist) {
		if _, err := p.State(); err != nil { // deleted under our hands
			return Pod{}, err
		}
		return e, nil
	}
	if unread != nil {
		return e, unread
	}
	m, err := parse(text)
	if err != nil {
		return e, fmt.Errorf("pod %s: manifest: %w", p.UUID, err)
	}
	if (want.Ends || !facts.State.Ended()) && dir.Has(poddir.NetDir) {
		if e.Networks, err = network.Read(p.Dir()); err != nil {
			return e, fmt.Errorf("pod %s: %w", p.UUID, err)
		}
	}
	if want.Live && !facts.State.Ended() {
		e.Ports, err = ports(p)
	}
	if err != nil {
		return e, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if want.Labels {
		e.SELinux = context(dir)
	}
	flavor, err := want.flavor(p, facts.State)
	if err != nil {
		return e, err
	}
	if want.Flavor {
		e.Flavor = stage1.FlavorName(line(dir, poddir.FlavorFile))
	}
	e.Stopped, e.UserAnnotations, e.UserLabels = want.Ends && facts.State.Ended() && dir.Marked(poddir.StoppedFile),
		m.UserAnnotations, m.UserLabels
	for _, ra := range m.Apps {
		a := app(e, m, &ra, dir, want)
		a.Health, a.Checks = health(flavor, p, dir, e, a)
		e.AppNames = append(e.AppNames, a.Name)
		e.Apps = append(e.Apps, a)
	}
	return e, nil
}

// app is what is told of one app of the pod e, except its health.
func app(e Pod, m *poddir.Manifest, ra *poddir.ManifestApp, dir *poddir.Reader, want Want) App {
	a := App{Name: ra.Name, State: e.State, ImageID: ra.Image.ID, ImageName: ra.Image.Name, CreatedAt: e.CreatedAt,
		StartedAt: e.StartedAt}
	for _, at := range ra.Mounts {
		a.Mounts = append(a.Mounts, mount(m, at.Volume, at.Path, at.AppVolume))
	}
	for _, l := range ra.Image.Labels {
		if l.Name == "version" {
			a.ImageName += ":" + l.Value
		}
	}
	if ra.App != nil {
		a.UserAnnotations, a.UserLabels = ra.App.UserAnnotations, ra.App.UserLabels
	}
	if want.Ends && e.StartedAt != nil {
		if code, at, ok := dir.AppStatus(a.Name); ok {
			a.ExitCode, a.State, a.FinishedAt = &code, poddir.Exited.String(), nanoseconds(at)
		}
	}
	return a
}

// All looks at every pod, the oldest first. A pod that goes away meanwhile is left out; one that
// cannot be read does not hide the others.
func All(pods poddir.Pods, want Want) ([]Pod, error) {
	found, err := pods.All()
	if err != nil || len(found) == 0 {
		return []Pod{}, err
	}
	all, errs := make([]Pod, len(found)), make([]error, len(found))
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(found)) {
		readers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(found)); i = next.Add(1) - 1 {
				all[i], errs[i] = read(found[i], want)
			}
		})
	}
	readers.Wait()
	for i, err := range errs {
		if errors.Is(err, poddir.ErrNotFound) {
			errs[i] = nil
		}
	}
	all = slices.DeleteFunc(all, func(p Pod) bool { return p.UUID == "" })
	slices.SortStableFunc(all, func(a, b Pod) int { return cmp.Compare(value(a.CreatedAt), value(b.CreatedAt)) })
	return all, errors.Join(errs...)
}

func value(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

func nanoseconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	n := t.UnixNano()
	return &n
}
