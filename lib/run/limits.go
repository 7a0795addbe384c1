package run

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cgroup"
	"github.com/rkt-toolkit/rkt/lib/pod"
)

// controllers are what settings of an app's unit need of the kernel (cgroups(7)).
var controllers = map[string]string{
	"CPUWeight": "cpu", "CPUQuota": "cpu", "MemoryMax": "memory",
	"IOReadBandwidthMax": "io", "IOWriteBandwidthMax": "io", "IOReadIOPSMax": "io", "IOWriteIOPSMax": "io",
}

// unenforced lists the limits of the pod and its apps that its control group can't enforce.
func unenforced(p *pod.Pod) ([]string, error) {
	apps, err := os.ReadDir(p.Path(pod.AppsDir))
	if err != nil {
		return nil, err
	}
	units := map[string]string{"system.slice": "all apps"}
	for _, app := range apps {
		units[app.Name()+".service"] = fmt.Sprintf("app %q", app.Name())
	}
	var there []string
	asked := false
	var missing []string
	for _, unit := range slices.Sorted(maps.Keys(units)) {
		text, err := os.ReadFile(unitPath(p, unit))
		if errors.Is(err, fs.ErrNotExist) && unit == "system.slice" {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			setting, _, _ := strings.Cut(line, "=")
			controller := controllers[setting]
			if controller == "" {
				continue
			}
			if !asked {
				asked, there = true, ownControllers()
			}
			if !slices.Contains(there, controller) {
				missing = append(missing, fmt.Sprintf("%s: %s is not enforced: the pod's control group has no %s controller (a unit with Delegate=yes has all of the host's)",
					units[unit], strings.TrimSpace(line), controller))
			}
		}
	}
	return missing, nil
}

// ownControllers are those of the control group that the process is in.
func ownControllers() []string {
	groups, err := cgroup.Own()
	if err != nil {
		return nil
	}
	var all []string
	for _, group := range groups {
		text, err := os.ReadFile(filepath.Join(group, "cgroup.controllers"))
		if err == nil {
			all = append(all, strings.Fields(string(text))...)
		}
	}
	return all
}

// strictly refuses a pod some of whose limits would not hold, or tells of them.
func strictly(p *pod.Pod, o Options) error {
	missing, err := unenforced(p)
	if err != nil {
		return err
	}
	if o.Strict && len(missing) > 0 {
		return fmt.Errorf("pod %s: %s", p.UUID, strings.Join(missing, "; "))
	}
	for _, line := range missing {
		o.Warn(line)
	}
	return nil
}
