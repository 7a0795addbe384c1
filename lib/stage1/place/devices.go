package place

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/devfilter"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// Devices are Start.Devices.
type Devices map[string]string

// Properties are arguments by which the scope that systemd-nspawn asks for allows the devices.
// Systemd gives it a filter (DevicePolicy=closed) because systemd-nspawn asks for one.
func (d Devices) Properties() (options []string) {
	for _, source := range slices.Sorted(maps.Keys(d)) {
		options = append(options, "--property=DeviceAllow="+source+" "+d[source])
	}
	return options
}

// partial returns a device that may be used in part only, or "".
func (d Devices) partial() string {
	for _, source := range slices.Sorted(maps.Keys(d)) {
		if !strings.Contains(d[source], "r") || !strings.Contains(d[source], "w") {
			return source
		}
	}
	return ""
}

// LimitDevices moves the process into a group of its own in the hierarchy of the devices
// controller, and reports whether there is one.
func LimitDevices(p *poddir.Pod, rules []devfilter.Rule) (bool, error) {
	parent, err := cgroup.In(cgroup.Devices)
	if err != nil || parent == "" {
		return false, err
	}
	dirs, err := NoteGroups(p, []string{parent})
	if err != nil {
		return false, err
	}
	if err := cgroup.Make(dirs...); err != nil {
		return false, err
	}
	for _, dir := range dirs {
		if err := devfilter.Limit(dir, rules); err != nil {
			return false, fmt.Errorf("%s: %w", dir, err)
		}
	}
	return true, cgroup.Enter(dirs, os.Getpid())
}

// NoFilter is what happens on a kernel without device filters: an error where a device may be used
// in part only, or with --strict-isolators. Else the pod starts with a warning: an app can write to
// nothing that is not mounted nodev.
func NoFilter(s *stage1.Start) error {
	d := Devices(s.Devices)
	source := d.partial()
	switch {
	case source != "":
		return fmt.Errorf("--device=%s:%s: %w, so that nothing can enforce %[2]q; allow rw, or enable that option",
			source, d[source], devfilter.ErrUnsupported)
	case s.Strict:
		return fmt.Errorf("--strict-isolators: %w", devfilter.ErrUnsupported)
	}
	s.Warn(devfilter.ErrUnsupported.Error() + ": the pod starts without one")
	return nil
}
