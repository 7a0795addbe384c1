package run

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/systemd"
)

// allowDevices returns arguments by which the control group that systemd-nspawn asks for lets the pod use the host's devices that its apps
// have, and no more than the command line says. In a service the unit's own rules hold (DevicePolicy=).
func allowDevices(p *poddir.Pod, apps []*app) (options []string, err error) {
	devices, err := readDevices(p, apps)
	if err != nil {
		return nil, err
	}
	for _, source := range slices.Sorted(maps.Keys(devices)) {
		how := devices[source]
		if !keepUnit() {
			options = append(options, "--property=DeviceAllow="+source+" "+how)
			continue
		}
		if strings.Contains(how, "r") && strings.Contains(how, "w") {
			continue
		}
		if unit := systemd.Unit(); unit == "" || !slices.Contains([]string{"closed", "strict"}, property(unit, "DevicePolicy")) {
			return nil, fmt.Errorf("--device=%s:%s: in a service the unit says so: DevicePolicy=closed and DeviceAllow=%[1]s %[2]s", source, how)
		}
	}
	return options, nil
}

// readDevices returns the devices that the apps have as volumes, by their paths on the host, and how they may be used.
func readDevices(p *poddir.Pod, apps []*app) (map[string]string, error) {
	text, err := p.ReadFile(poddir.MountsFile)
	if err != nil {
		return nil, err
	}
	binds, err := fstab.Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Path(poddir.MountsFile), err)
	}
	said := map[string]string{}
	for _, a := range apps {
		if a.prepared == nil || a.prepared.Annotations[stage1.DevicesAnnotation] == "" {
			continue
		}
		var list []string
		if err := json.Unmarshal([]byte(a.prepared.Annotations[stage1.DevicesAnnotation]), &list); err != nil {
			return nil, fmt.Errorf("app %q: annotation %s: %w", a.name, stage1.DevicesAnnotation, err)
		}
		for _, s := range list {
			source, how := s[:max(0, strings.LastIndexByte(s, ' '))], s[strings.LastIndexByte(s, ' ')+1:]
			for _, letter := range strings.Split(how, "") {
				if !strings.Contains(said[source], letter) {
					said[source] += letter
				}
			}
		}
	}
	devices := map[string]string{}
	for _, b := range binds {
		if _, _, ok := inApp(b.Target); !ok || b.NoDev {
			continue
		}
		if devices[b.Source] = said[b.Source]; devices[b.Source] == "" {
			devices[b.Source] = "rwm"
		}
	}
	return devices, nil
}
