package run

import (
	"fmt"
	"os"

	"github.com/rkt-toolkit/rkt/lib/host/netns"
	"github.com/rkt-toolkit/rkt/lib/host/sysctl"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// unprivileged give every user of a pod ports below 1024 and ping. A pod with users of its own has
// no capability in its network namespace, which is the host's root's.
var unprivileged = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0",
	"net.ipv4.ping_group_range": "0 2147483647"}

// setParameters sets what the configurations of the apps have of the parameters of the pod's
// network namespace; those of the IPC namespace rkt-stage2 sets. No parameter of the host is
// changed.
func setParameters(p *poddir.Pod, apps []*app, o Options) error {
	network, err := namespace(p)
	if err != nil {
		return err
	}
	wanted := map[string]string{}
	for _, a := range apps {
		if a.Prepared == nil || a.Prepared.Linux == nil {
			continue
		}
		for name, value := range a.Prepared.Linux.Sysctl {
			if err := sysctl.Check(name, value); err != nil {
				return fmt.Errorf("app %q: linux.sysctl: %s: %w", a.Name, name, err)
			}
			canonical := sysctl.Canonical(name)
			if other, ok := wanted[canonical]; ok && other != value {
				return fmt.Errorf("app %q: linux.sysctl: %s: another app of the pod has %q, not %q", a.Name,
					name, other, value)
			}
			wanted[canonical] = value
		}
	}
	for name := range wanted {
		switch {
		case sysctl.IsNet(name) && network == "":
			return fmt.Errorf("sysctl %s: the pod's network is the host's (--net=host), and so is this parameter; "+
				"set it with sysctl(8)", name)
		case sysctl.IsIPC(name) && o.HostIPC:
			return fmt.Errorf("sysctl %s: the pod's IPC is the host's (--ipc=parent), and so is this parameter; set "+
				"it with sysctl(8)", name)
		case sysctl.IsIPC(name):
			delete(wanted, name)
		}
	}
	if network == "" {
		return nil
	}
	for name, value := range unprivileged {
		if _, ok := wanted[name]; !ok {
			wanted[name] = value
		}
	}
	return netns.In(network, func() error {
		dir, err := os.Open("/proc/sys")
		if err != nil {
			return err
		}
		defer dir.Close()
		return sysctl.Set(int(dir.Fd()), wanted)
	})
}
