package host

import (
	"errors"
	"path/filepath"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/devfilter"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
)

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
		return place.NoFilter(s.Start)
	}
	err := attachFilter(rules)
	if errors.Is(err, devfilter.ErrUnsupported) {
		var limited bool
		if limited, err = place.LimitDevices(s.Pod, rules); err == nil && !limited {
			return place.NoFilter(s.Start)
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
		dir = filepath.Join(dir, place.Payload)
		if err := cgroup.Make(dir); err != nil {
			return err
		}
	}
	return devfilter.Attach(dir, rules)
}
