package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/program"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// service is what a unit says of its pod.
type service struct {
	policy      string   // registry, local, or "" if it asks for no updates
	names       []string // of images, in their order
	environment []string // RKT_… variables
	pod         *poddir.Pod
}

// autoUpdate is Podman's label, which an app or an image may have.
const autoUpdate = "io.containers.autoupdate"

var imageName = regexp.MustCompile(`(?:docker://|oci:|oci-archive:|docker-archive:)[^\s"'\\;]+`)

// service reads what systemd has of a unit, and the file of an instance of rkt@.service.
func (o *Options) service(ctx context.Context, unit string) (s service, err error) {
	if s.pod, err = o.running(unit); err != nil {
		return s, err
	}
	m, err := s.pod.Manifest()
	if err != nil {
		return s, err
	}
	for _, app := range m.Apps {
		if app.App != nil && s.policy == "" {
			s.policy = app.App.UserLabels[autoUpdate]
		}
	}
	text, err := show(ctx, unit, "Environment", "ExecStartPre", "ExecStart")
	if err != nil {
		return s, err
	}
	cat, err := program.Command(ctx, "systemctl", "cat", unit).Output()
	if err != nil {
		return s, fmt.Errorf("systemctl cat %s: %w", unit, err)
	}
	for line := range strings.Lines(string(cat)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "X-Rkt-Update="); ok {
			s.policy = value
		}
	}
	if instance, ok := strings.CutPrefix(unit, "rkt@"); ok {
		file, err := s.readFile(strings.TrimSuffix(instance, ".service"))
		if err != nil {
			return s, err
		}
		text += file
	}
	for word := range strings.FieldsSeq(text) {
		if word = strings.TrimPrefix(word, "Environment="); strings.HasPrefix(word, "RKT_") {
			s.environment = append(s.environment, word)
		}
	}
	switch {
	case s.policy == "" || s.policy == "no" || s.policy == "disabled":
		s.policy = ""
		return s, nil
	case s.policy != "registry" && s.policy != "local":
		return s, fmt.Errorf("asks for updates by %q; write registry or local", s.policy)
	case strings.Contains(text, "pull-policy=update") || strings.Contains(text, "--no-store"):
		return s, errors.New("asks the registry at each start (--pull-policy=update), so that there is no way back; " +
			"write --pull-policy=new")
	}
	for _, name := range imageName.FindAllString(text, -1) {
		if !slices.Contains(s.names, name) {
			s.names = append(s.names, name)
		}
	}
	return s, nil
}

// readFile reads what /etc/rkt/pods has of an instance of rkt@.service, and returns its text.
func (s *service) readFile(instance string) (string, error) {
	file, err := os.ReadFile("/etc/rkt/pods/" + instance + ".env")
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSpace(line)
		if value, ok := strings.CutPrefix(line, "UPDATE="); ok {
			s.policy = strings.Trim(value, `"'`)
		}
		if strings.HasPrefix(line, "RKT_") {
			s.environment = append(s.environment, line)
		}
	}
	return string(file), err
}

// running is the running pod of a service: that of the service's start.
func (o *Options) running(unit string) (*poddir.Pod, error) {
	services, err := o.Services()
	if err == nil && services[unit] == nil {
		err = fmt.Errorf("%s: has no running pod", unit)
	}
	return services[unit], err
}

// Services are the running pods of services, by the name of the unit.
func (o *Options) Services() (map[string]*poddir.Pod, error) {
	all, err := o.Pods.All()
	if err != nil {
		return nil, err
	}
	services := map[string]*poddir.Pod{}
	for _, p := range all {
		if state, err := p.State(); err != nil || state != poddir.Running {
			continue
		}
		if name, err := UnitOf(p); err == nil && services[name] == nil {
			services[name] = p
		}
	}
	return services, nil
}

// images are the names of a service's images, and what they mean now: the images of the running
// pod, or after a kill those that were recorded.
func (o *Options) images(s service, begun []Image) (list []Image, err error) {
	m, err := s.pod.Manifest()
	if err != nil {
		return nil, err
	}
	has := func(id string) bool { return hasImage(m, id) }
	for i, name := range s.names {
		img := Image{Name: name}
		if img.Old, err = o.lookup(name); err != nil {
			return nil, fmt.Errorf("image %s: %w", name, err)
		}
		if !has(img.Old) {
			if len(s.names) != len(m.Apps) {
				return nil, fmt.Errorf("image %s: which app of the pod has it cannot be told; restart the "+
					"service", name)
			}
			img.Old = m.Apps[i].Image.ID
		}
		for _, was := range begun {
			if was.Name == name && has(was.Old) {
				img.Old = was.Old
			}
		}
		list = append(list, img)
	}
	if list == nil {
		return nil, errors.New("names no image of a registry or file; an image by its ID has no new one")
	}
	return list, nil
}

// hasImage reports whether an app of the pod is of the image.
func hasImage(m *poddir.Manifest, id string) bool {
	return slices.ContainsFunc(m.Apps, func(a poddir.ManifestApp) bool { return a.Image.ID == id })
}

// runs returns an error if the service does not run the new images.
func (o *Options) runs(unit string, images []Image) error {
	p, err := o.running(unit)
	if err != nil {
		return err
	}
	m, err := p.Manifest()
	if err != nil {
		return err
	}
	for _, img := range images {
		if !hasImage(m, img.New) {
			return fmt.Errorf("%s: does not run %s", unit, img.Name)
		}
	}
	return nil
}

// look is how often good looks at the service and its pod.
const look = 250 * time.Millisecond

// good returns an error unless the service goes on, and its apps pass their first health check.
func (o *Options) good(ctx context.Context, unit string) error {
	begin, first, seen := time.Now(), "", 0
	var p *poddir.Pod
	for ; ctx.Err() == nil; time.Sleep(look) {
		ran := time.Since(begin) // at least, if it runs below
		state, err := show(ctx, unit, "ActiveState", "InvocationID")
		if err != nil {
			return err
		}
		if first == "" {
			first = state
		}
		switch {
		case !strings.Contains(state, "ActiveState=active"):
			return fmt.Errorf("%s has ended after %s", unit, ran.Round(100*time.Millisecond))
		case state != first:
			return fmt.Errorf("%s has ended and was started again after %s", unit, ran.Round(100*time.Millisecond))
		}
		if p == nil { // the start of the service has one, and no other
			if p, err = o.running(unit); err != nil {
				continue // it ends just now, or is a unit that stays active
			}
		}
		checks, err := o.Health(p)
		seen = max(seen, len(checks)) // an app that has just been killed has no health any more
		healthy := err == nil && len(checks) == seen && !slices.ContainsFunc(checks,
			func(state string) bool { return state != "healthy" })
		switch {
		case healthy && ran >= o.Settle:
			return nil
		case ran >= o.Settle+o.Patience:
			return fmt.Errorf("%s is not healthy after %s", unit, o.Settle+o.Patience)
		}
	}
	return ctx.Err()
}

// bound are the units that run now and end when the service does.
func bound(ctx context.Context, unit string) (units []string, err error) {
	text, err := show(ctx, unit, "RequiredBy", "BoundBy", "ConsistsOf")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		_, names, _ := strings.Cut(strings.TrimSpace(line), "=")
		for name := range strings.FieldsSeq(names) {
			state, err := show(ctx, name, "ActiveState")
			if err != nil {
				return nil, err
			}
			if !slices.Contains(units, name) && strings.Contains(state, "=active") {
				units = append(units, name)
			}
		}
	}
	return units, nil
}

// start starts those units that do not run.
func start(ctx context.Context, units []string) (err error) {
	for _, unit := range units {
		err = errors.Join(err, again(ctx, "start", unit))
	}
	return err
}

// again starts or restarts a unit, however often it was started before.
func again(ctx context.Context, verb, unit string) error {
	_ = systemctl(ctx, "reset-failed", unit) // which it need not be
	return systemctl(ctx, verb, unit)
}

func show(ctx context.Context, unit string, properties ...string) (string, error) {
	out, err := program.Command(ctx, "systemctl", "show", "--property="+strings.Join(properties, ","), unit).Output()
	if err != nil {
		return "", fmt.Errorf("systemctl show %s: %w", unit, err)
	}
	return string(out), nil
}

// systemctl runs a job, and waits for its result.
func systemctl(ctx context.Context, verb, unit string) error {
	out, err := program.Command(ctx, "systemctl", verb, unit).CombinedOutput()
	if err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("systemctl %s %s: %s (%w)", verb, unit, first, err)
	}
	return nil
}

// UnitOf is the service that a running pod is in.
func UnitOf(p *poddir.Pod) (string, error) {
	pid, err := p.Supervisor()
	if err != nil {
		return "", err
	}
	unit := systemd.UnitOf(pid)
	if !strings.HasSuffix(unit, ".service") {
		return "", fmt.Errorf("pod %s: is not in a service", p.UUID)
	}
	return unit, nil
}
