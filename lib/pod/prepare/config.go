package prepare

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/seccomp"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// writeConfigs writes what rkt-stage2 is to make of each app, and its seccomp filter, assembled.
// rkt-run-prepared finishes the configuration and mounts all of them, read-only, for the pod's PID
// 1: that is the mount. own are the mounts that apps have of the flavor.
func writeConfigs(p *poddir.Pod, apps []stage1.App, own map[string][]specs.Mount) (mount fstab.Bind, err error) {
	for _, app := range apps {
		if err := writeConfig(p, app, own[app.Name]); err != nil {
			return mount, fmt.Errorf("app %q: %w", app.Name, err)
		}
	}
	target := poddir.RootDir + stage1.ConfigDir
	if err := os.Mkdir(p.Path(target), 0o700); err != nil {
		return mount, err
	}
	return fstab.Bind{Source: poddir.ConfigDir, Target: target, ReadOnly: true, NoDev: true}, nil
}

func writeConfig(p *poddir.Pod, app stage1.App, own []specs.Mount) error {
	dir := p.Path(poddir.ConfigDir + "/" + app.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	if app.Seccomp.Names, err = app.Seccomp.Expand(); err != nil {
		return err
	}
	config, err := app.Config(own...)
	if err != nil {
		return err
	}
	if config.Linux.Seccomp != nil {
		filter, err := seccomp.AssembleProfile(config.Linux.Seccomp)
		if err != nil {
			return err
		}
		if err := os.WriteFile(dir+"/"+stage1.FilterFile, seccomp.Marshal(filter), 0o600); err != nil {
			return err
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return os.WriteFile(dir+"/"+poddir.PreparedConfigFile, append(text, '\n'), 0o600)
}
