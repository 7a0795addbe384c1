package host

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/devfilter"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// devices are Start.Devices.
type devices map[string]string

// properties are arguments by which the scope that systemd-nspawn asks for allows the devices.
// Systemd gives it a filter (DevicePolicy=closed) because systemd-nspawn asks for one.
func (d devices) properties() (options []string) {
	for _, source := range slices.Sorted(maps.Keys(d)) {
		options = append(options, "--property=DeviceAllow="+source+" "+d[source])
	}
	return options
}

// partial returns a device that may be used in part only, or "".
func (d devices) partial() string {
	for _, source := range slices.Sorted(maps.Keys(d)) {
		if !strings.Contains(d[source], "r") || !strings.Contains(d[source], "w") {
			return source
		}
	}
	return ""
}

// filterDevices keeps the pod from all devices but those that its apps have. In a scope systemd
// does so, where the kernel lets it. Elsewhere the pod gets a BPF filter on its own cgroup: that
// which systemd-nspawn makes in a unit, below the unit's, and without systemd the one that the
// process is in. Where the kernel has no such filters the devices controller of version 1 does it,
// in a group that is noted first, for rkt-gc.
func (s *starting) filterDevices() error {
	rules := s.Rules
	if systemd.Booted() && !s.machine.KeepUnit {
		if v1, err := cgroup.In(cgroup.Devices); err != nil || v1 != "" || devfilter.Supported(rules) {
			return err
		}
		return NoFilter(s.Start)
	}
	err := attachFilter(rules)
	if errors.Is(err, devfilter.ErrUnsupported) {
		var limited bool
		if limited, err = LimitDevices(s.Pod, rules); err == nil && !limited {
			return NoFilter(s.Start)
		}
	}
	return err
}

// attachFilter attaches a filter to the cgroup of version 2 that becomes the pod's. It is
// devfilter.ErrUnsupported where there is none.
func attachFilter(rules []devfilter.Rule) error {
	dir, err := cgroup.In(cgroup.Unified)
	if err != nil {
		return err
	}
	if dir == "" {
		return devfilter.ErrUnsupported
	}
	if systemd.Booted() {
		dir = filepath.Join(dir, payload)
		if err := cgroup.Make(dir); err != nil {
			return err
		}
	}
	return devfilter.Attach(dir, rules)
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
	d := devices(s.Devices)
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
