package prepare

import (
	"os"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/seccomp"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// writeFilter writes the seccomp filter that every process of the pod will have.
func writeFilter(p *poddir.Pod, apps []stage1.App, o Options) error {
	filter, err := seccomp.Assemble(policy(apps, o))
	if err != nil {
		return err
	}
	return os.WriteFile(p.Path(poddir.FilterFile), seccomp.Marshal(filter), 0o600)
}

// policy is what the command line grants. In a pod with a user namespace of its own systemd-nspawn has to make
// it, and root in one below it is still nobody on the host. Calls are those that a --seccomp=mode=retain names;
// a group does not name them, nor does an image.
func policy(apps []stage1.App, o Options) seccomp.Policy {
	if o.AllCalls {
		return seccomp.Policy{All: true}
	}
	granted := seccomp.Policy{UserNamespaces: o.OwnUsers || slices.ContainsFunc(apps, func(a stage1.App) bool {
		return slices.Contains(a.Capabilities, "CAP_SYS_ADMIN")
	})}
	for _, app := range apps {
		granted.Capabilities = append(granted.Capabilities, app.Capabilities...)
	}
	for _, app := range o.Apps {
		if filter, err := parseSeccomp(app.Limits.Seccomp); err == nil && filter.Retain {
			granted.Calls = append(granted.Calls, strings.Split(app.Limits.Seccomp, ",")...)
			granted.UserNamespaces = granted.UserNamespaces || filter.Nested
		}
	}
	return granted
}
