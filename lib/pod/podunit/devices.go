package podunit

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/unitfile"
)

// allowDevices limits a service to the devices that the pod's own filter allows, and that the
// program which runs the pod needs: those that systemd's own unit for containers has, and those of
// --device and --volume. What a pod manifest names is not known here.
func (p *Pod) allowDevices(f *unitfile.File) error {
	if slices.ContainsFunc(p.Prepare, func(flag string) bool { return strings.HasPrefix(flag, "--pod-manifest=") }) {
		return nil
	}
	flags := p.Prepare
	for _, app := range p.Apps {
		flags = slices.Concat(flags, app.Flags)
	}
	f.Add("Service", "DevicePolicy", "closed")
	f.Add("Service", "DeviceAllow", "char-pts rw")
	f.Add("Service", "DeviceAllow", "/dev/net/tun rwm")
	for _, d := range devices(flags) {
		path, err := unitfile.Path(d.source)
		if err != nil {
			return err
		}
		if strings.ContainsAny(path, " \t\"'\\") {
			return fmt.Errorf("%s: DeviceAllow= of systemd cannot name this device", d.source)
		}
		f.Add("Service", "DeviceAllow", path+" "+d.access)
	}
	return nil
}

// device is one of the host's, and how the pod may use it: letters of "rwm".
type device struct{ source, access string }

// devices are those that flags name.
func devices(flags []string) (found []device) {
	for _, flag := range flags {
		name, value, _ := strings.Cut(flag, "=")
		d := device{access: "rwm"}
		switch name {
		case "--device":
			parts := strings.Split(value, ":")
			d.source = parts[0]
			if last := parts[len(parts)-1]; len(parts) > 1 && strings.Trim(last, "rwm") == "" {
				d.access = last
			}
		case "--volume":
			d.source = volumeSource(value)
		}
		if d.source != "" && isDevice(d.source) && !slices.Contains(found, d) {
			found = append(found, d)
		}
	}
	return found
}

// volumeSource is the source of rkt's NAME,kind=host,source=PATH or of SOURCE:TARGET, "" for
// another kind.
func volumeSource(volume string) string {
	for field := range strings.SplitSeq(volume, ",") {
		if source, ok := strings.CutPrefix(field, "source="); ok {
			return source
		}
	}
	source, _, _ := strings.Cut(volume, ":")
	return source
}

// isDevice reports whether a path is one of a device, here or, by its name, on the host that has
// the unit.
func isDevice(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return strings.HasPrefix(path, "/dev/")
	}
	return info.Mode()&os.ModeDevice != 0
}
