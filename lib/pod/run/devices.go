package run

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/devfilter"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// devices are those of the host that the apps of a pod may use besides stage1.DeviceRules, by their
// paths on the host, and how: letters of "rwm".
type devices map[string]string

// rules are those of the pod's device filter.
func (d devices) rules(tun bool) ([]devfilter.Rule, error) {
	rules := stage1.DeviceRules(tun)
	for _, source := range slices.Sorted(maps.Keys(d)) {
		rule, err := devfilter.Of(source, d[source])
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// readDevices returns the devices that the apps have as volumes.
func readDevices(p *poddir.Pod, apps []*app) (devices, error) {
	binds, err := readMounts(p)
	if err != nil {
		return nil, err
	}
	said := map[string]string{}
	for _, a := range apps {
		if a.Prepared == nil || a.Prepared.Annotations[stage1.DevicesAnnotation] == "" {
			continue
		}
		var list []string
		if err := json.Unmarshal([]byte(a.Prepared.Annotations[stage1.DevicesAnnotation]), &list); err != nil {
			return nil, fmt.Errorf("app %q: annotation %s: %w", a.Name, stage1.DevicesAnnotation, err)
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
	d := devices{}
	for _, b := range binds {
		if _, _, ok := poddir.InApp(b.Target); !ok || b.NoDev {
			continue
		}
		if d[b.Source] = said[b.Source]; d[b.Source] == "" {
			d[b.Source] = "rwm"
		}
	}
	return d, nil
}

// usesTun reports whether an app has stage1.TunDevice.
func usesTun(apps []*app) bool {
	return slices.ContainsFunc(apps, func(a *app) bool { return a.Prepared != nil && stage1.HasTun(a.Prepared) })
}
