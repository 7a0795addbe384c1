package prepare

import (
	"os"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/seccomp"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// writeFilter writes the seccomp filter that every process of the pod will have, and the one that
// it will have in a user namespace of its own: that is made under the filter, and root in a
// namespace below it is still nobody on the host.
func writeFilter(p *poddir.Pod, apps []stage1.App, o Options) error {
	granted := policy(apps, o)
	for _, file := range []string{poddir.FilterFile, poddir.OwnFilter} {
		if file == poddir.OwnFilter {
			granted.UserNamespaces = true
		}
		filter, err := seccomp.Assemble(granted)
		if err != nil {
			return err
		}
		if err := os.WriteFile(p.Path(file), seccomp.Marshal(filter), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// policy is what the command line grants. Calls are those that a --seccomp=mode=retain names; a
// group does not name them, nor does an image.
func policy(apps []stage1.App, o Options) seccomp.Policy {
	if o.AllCalls {
		return seccomp.Policy{All: true}
	}
	granted := seccomp.Policy{UserNamespaces: slices.ContainsFunc(apps, func(a stage1.App) bool {
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
