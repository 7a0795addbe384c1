package run

import (
	"fmt"
	"slices"

	"github.com/rkt-toolkit/rkt/lib/host/apparmor"
)

// defaultProfile is the AppArmor profile of apps for which none is asked, where it is loaded: units/apparmor.
const defaultProfile = "rkt-default"

// chooseProfiles gives each app that has no AppArmor profile the default one, if that is loaded, except an app with
// CAP_SYS_ADMIN, which has it to do what the profile denies. It is an error if a profile that was asked for is not loaded.
func chooseProfiles(apps []*app) error {
	loaded, err := apparmor.Loaded(defaultProfile)
	if err != nil {
		return err
	}
	for _, a := range apps {
		if a.Prepared == nil {
			continue
		}
		p := a.Prepared.Process
		switch p.ApparmorProfile {
		case "":
			if loaded && !slices.Contains(p.Capabilities.Bounding, "CAP_SYS_ADMIN") {
				a.Final.AppArmor = defaultProfile
			}
		case apparmor.Unconfined:
		default:
			there, err := apparmor.Loaded(p.ApparmorProfile)
			if err != nil {
				return err
			}
			if !there {
				return fmt.Errorf("app %q: AppArmor profile %q is not loaded; load it with apparmor_parser --replace FILE", a.Name, p.ApparmorProfile)
			}
		}
	}
	return nil
}
