package run

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/rkt-toolkit/rkt/lib/host/apparmor"
	"github.com/rkt-toolkit/rkt/lib/host/selinux"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// defaultProfile is the AppArmor profile of apps for which none is asked, where it is loaded:
// units/apparmor.
const defaultProfile = "rkt-default"

// chooseProfiles gives each app that has no AppArmor profile the default one, if that is loaded,
// except an app with CAP_SYS_ADMIN, which has it to do what the profile denies. It is an error if a
// profile that was asked for is not loaded.
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
				return fmt.Errorf("app %q: AppArmor profile %q is not loaded; load it with apparmor_parser "+
					"--replace FILE", a.Name, p.ApparmorProfile)
			}
		}
	}
	return nil
}

// chooseLabels gives the apps the SELinux contexts that rkt-prepare has noted for the pod, and
// returns that of what is mounted for it; nil is none. A pod that starts when the host has no
// SELinux any more has none.
func chooseLabels(p *poddir.Pod, apps []*app, users *shifted) (mounted *selinux.Context, err error) {
	labels, err := p.Labels()
	if err != nil || labels == nil {
		return nil, err
	}
	if !selinux.Enabled() {
		if labels.Asked {
			return nil, errors.New("--selinux: the host has no SELinux")
		}
		return nil, os.Remove(p.Path(poddir.LabelsFile))
	}
	for _, a := range apps {
		a.Final.SELinux, a.Final.MountLabel = labels.Process.String(), labels.File.String()
	}
	if users != nil {
		users.label = labels.File.String()
	}
	return &labels.File, nil
}
