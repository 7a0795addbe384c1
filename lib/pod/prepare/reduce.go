package prepare

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image/isolator"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// reduce takes the isolators of an image, which is hostile: what it asks for beyond the default it
// does not get, and the user is told which flag grants it. The isolators of a pod manifest are
// root's, and do not pass through here.
func reduce(app string, image types.Isolators, a App, o Options) (types.Isolators, error) {
	var kept types.Isolators
	for _, i := range image {
		less, why, err := reduceOne(i, a, o)
		if err == nil && why != "" && o.Strict {
			err = errors.New(why)
		}
		if err != nil {
			return nil, fmt.Errorf("isolator %s: %w", i.Name, err)
		}
		if why != "" {
			o.Warn(fmt.Sprintf("app %q: isolator %s: %s", app, i.Name, why))
		}
		if less != nil {
			kept = append(kept, *less)
		}
	}
	return kept, nil
}

// reduceOne returns what is left of one isolator of an image, nil if nothing is, and why it is less
// than the image asks for; "" if it is not, or if a flag decides anyway.
func reduceOne(i types.Isolator, a App, o Options) (less *types.Isolator, why string, err error) {
	switch v := i.Value().(type) {
	case *types.LinuxCapabilitiesRetainSet:
		asked := capabilityNames(v.Set())
		if err := checkCapabilities(asked); err != nil {
			return nil, "", err
		}
		more := without(asked, stage1.DefaultCapabilities)
		if len(more) == 0 || o.AllCaps {
			return &i, "", nil
		}
		if a.CapsRetain == nil && a.CapsRemove == nil {
			why = fmt.Sprintf("an image cannot grant itself %s; to grant them, "+
				"add --caps-retain=%s after the image", strings.Join(more, ", "), strings.Join(asked, ","))
		}
		less, err = capabilityIsolator(without(asked, more))
		return less, why, err
	case *types.LinuxOOMScoreAdj:
		least := max(0, o.OOMScore)
		if int(*v) >= least {
			return &i, "", nil
		}
		if a.Limits.OOMScore == nil {
			why = fmt.Sprintf("an image cannot grant itself less than %d; to grant it, "+
				"add --oom-score-adj=%d after the image", least, int(*v))
		}
		return nil, why, nil
	case *types.LinuxCPUShares:
		if *v <= defaultShares {
			return &i, "", nil
		}
		if a.Limits.CPUShares == nil {
			why = fmt.Sprintf("an image cannot grant itself more than %d; to grant it, "+
				"add --cpu-shares=%d after the image", defaultShares, int(*v))
		}
		return nil, why, nil
	case *types.LinuxSELinuxContext:
		return nil, "an image cannot choose its context; a pod manifest can (--pod-manifest)", nil
	case *isolator.AppArmor:
		return nil, "an image cannot choose its profile; a pod manifest can (--pod-manifest)", nil
	}
	return &i, "", nil
}

// defaultShares is the weight of an app for which nobody says another.
const defaultShares = 1024

// capabilityIsolator says by appc's means that an app has the capabilities set: appc knows no empty
// retain set.
func capabilityIsolator(set []string) (*types.Isolator, error) {
	if len(set) == 0 {
		revoke, err := types.NewLinuxCapabilitiesRevokeSet(stage1.DefaultCapabilities...)
		if err != nil {
			return nil, err
		}
		return revoke.AsIsolator()
	}
	retain, err := types.NewLinuxCapabilitiesRetainSet(set...)
	if err != nil {
		return nil, err
	}
	return retain.AsIsolator()
}

// recordCapabilities has the isolators of an app in the pod's manifest say which capabilities it
// has, so that a pod made of that manifest has these, and not what an image asked for.
func recordCapabilities(isolators types.Isolators, set []string) (types.Isolators, error) {
	others := slices.DeleteFunc(slices.Clone(isolators), func(i types.Isolator) bool {
		return i.Name == types.LinuxCapabilitiesRetainSetName || i.Name == types.LinuxCapabilitiesRevokeSetName
	})
	if len(others) == len(isolators) && len(set) == len(stage1.DefaultCapabilities) &&
		len(without(set, stage1.DefaultCapabilities)) == 0 {
		return isolators, nil
	}
	own, err := capabilityIsolator(set)
	if err != nil {
		return nil, err
	}
	return append(others, *own), nil
}
