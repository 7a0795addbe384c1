package prepare

import (
	"fmt"
	"maps"
	"slices"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/host/sysctl"
)

// setSysctl settles the kernel parameters of a pod, and has its manifest say them: those of the
// isolator os/unix/sysctl (ace.md) of the manifest that it was described by, over which the command
// line takes precedence.
func setSysctl(o *Options, manifest *schema.PodManifest) error {
	all := map[string]string{}
	add := func(from string, parameters map[string]string) error {
		for _, name := range slices.Sorted(maps.Keys(parameters)) {
			if err := sysctl.Check(name, parameters[name]); err != nil {
				return fmt.Errorf("%s: %s: %w", from, name, err)
			}
			all[sysctl.Canonical(name)] = parameters[name]
		}
		return nil
	}
	for _, i := range manifest.Isolators {
		if v, ok := i.Value().(*types.UnixSysctl); ok {
			if err := add("isolator "+types.UnixSysctlName, *v); err != nil {
				return err
			}
		}
	}
	if err := add("--sysctl", o.Sysctl); err != nil {
		return err
	}
	if len(all) == 0 {
		return nil
	}
	others := slices.DeleteFunc(slices.Clone(manifest.Isolators),
		func(i types.Isolator) bool { return i.Name == types.UnixSysctlName })
	manifest.Isolators = append(others, types.UnixSysctl(all).AsIsolator())
	o.Sysctl = all
	return nil
}
