package run

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// app is an app of the pod, and what becomes known of it on the way to its start.
type app struct {
	*stage1.Starting
	secrets map[string]secret // by name
}

// readApps reads what rkt-prepare has settled of the pod's apps.
func readApps(p *poddir.Pod, hostname string, given given) ([]*app, error) {
	if hostname == "" {
		hostname = stage1.PodName(p.UUID)
	}
	entries, err := os.ReadDir(p.Path(poddir.AppsDir))
	if err != nil {
		return nil, err
	}
	former, err := isFormer(p)
	if err != nil {
		return nil, err
	}
	_, noTun := os.Stat(stage1.TunDevice)
	var apps []*app
	for _, entry := range entries {
		final := stage1.Final{Hostname: hostname, NoTun: noTun != nil, Limits: given.limits, Umask: given.umask}
		a := &app{Starting: &stage1.Starting{Name: entry.Name(), Final: final}}
		apps = append(apps, a)
		if former {
			continue
		}
		file := poddir.AppConfig(a.Name, poddir.PreparedConfigFile)
		text, err := p.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if a.Prepared, err = stage1.ParseConfig(text); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Path(file), err)
		}
		if a.Prepared.Process == nil {
			return nil, fmt.Errorf("%s: has no process", p.Path(file))
		}
	}
	return apps, nil
}

// isFormer reports whether a rkt prepared the pod that had no rkt-stage2.
func isFormer(p *poddir.Pod) (bool, error) {
	_, err := os.Lstat(p.Path(poddir.ConfigDir))
	if err != nil && !os.IsNotExist(err) {
		return false, err
	}
	return err != nil, nil
}

// writeConfigs writes the final configurations of the apps, which rkt-stage2 follows.
func writeConfigs(p *poddir.Pod, apps []*app) error {
	for _, a := range apps {
		if a.Prepared == nil {
			continue
		}
		text, err := json.Marshal(stage1.Finish(a.Prepared, a.Final))
		if err != nil {
			return fmt.Errorf("app %q: configuration: %w", a.Name, err)
		}
		if err := durable.WriteForNow(p.Path(poddir.AppConfig(a.Name, stage1.ConfigFile)), append(text, '\n'),
			0o600); err != nil {
			return err
		}
	}
	return nil
}
