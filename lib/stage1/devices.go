package stage1

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/devfilter"
)

// devices are the nodes that every app has (appc's ace.md, "Filesystem Setup"); /dev/console, pts,
// shm and mqueue are mounts of the pod's.
var devices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}, {Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7}, {Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9}, {Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

// DevicesAnnotation is the name of an annotation of an app in a pod's manifest and its
// configuration: a JSON array of "SOURCE rwm", how the pod may use a device of the host's that the
// app has as a volume.
const DevicesAnnotation = "coreos.com/rkt/stage2/devices"

// TunDevice makes network interfaces for who has CAP_NET_ADMIN. Every app of rkt 1.30 had it; now
// an app that may use it.
const TunDevice = "/dev/net/tun"

// DeviceRules are what a pod may do with devices, without those of the host that its apps have:
// with those of every app, with terminals (ptmx, the slaves that devpts has, and the console of the
// pod's systemd), and with TunDevice where an app has it.
func DeviceRules(tun bool) []devfilter.Rule {
	var rules []devfilter.Rule
	for _, d := range devices {
		rules = append(rules, devfilter.Rule{Type: 'c', Major: uint32(d.Major), Minor: uint32(d.Minor), Access: "rwm"})
	}
	rules = append(rules, devfilter.Rule{Type: 'c', Major: 5, Minor: 2, Access: "rwm"},
		devfilter.Rule{Type: 'c', Major: 136, AnyMinor: true, Access: "rw"},
		devfilter.Rule{Type: 'c', Major: 5, Minor: 1, Access: "rwm"})
	if tun {
		rules = append(rules, devfilter.Rule{Type: 'c', Major: 10, Minor: 200, Access: "rwm"})
	}
	return rules
}

// HasTun reports whether the app with this configuration has TunDevice.
func HasTun(prepared *specs.Spec) bool {
	return prepared.Linux != nil && slices.ContainsFunc(prepared.Linux.Devices,
		func(d specs.LinuxDevice) bool { return d.Path == TunDevice })
}

// devices are those of the app, except where it has a volume.
func (a App) devices() []specs.LinuxDevice {
	own := slices.Clone(devices)
	if slices.Contains(a.Capabilities, "CAP_NET_ADMIN") {
		own = append(own, specs.LinuxDevice{Path: TunDevice, Type: "c", Major: 10, Minor: 200})
	}
	return slices.DeleteFunc(own, func(d specs.LinuxDevice) bool {
		return slices.ContainsFunc(a.Volumes, func(volume string) bool {
			return strings.HasPrefix(d.Path+"/", volume+"/")
		})
	})
}

// HasDevices reports whether rkt-stage2 makes the devices of the app with this configuration, as
// prepared. A pod that an older rkt prepared has none there.
func HasDevices(prepared *specs.Spec) bool {
	return prepared.Linux != nil && len(prepared.Linux.Devices) > 0
}

// withoutTun is a configuration's linux without TunDevice.
func withoutTun(linux *specs.Linux) *specs.Linux {
	if linux == nil {
		return nil
	}
	changed := *linux
	changed.Devices = slices.DeleteFunc(slices.Clone(linux.Devices),
		func(d specs.LinuxDevice) bool { return d.Path == TunDevice })
	return &changed
}
