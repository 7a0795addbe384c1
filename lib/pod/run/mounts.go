package run

import (
	"fmt"
	"os"
	"slices"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// mountAll makes the pod's mounts in the mount namespace that the calling thread has to itself, and
// gives the apps the files in which they look names up. elsewhere reports whether the flavor mounts
// a volume itself; it may be nil.
func mountAll(p *poddir.Pod, apps []*app, o Options, users *shifted, elsewhere func(fstab.Bind, *stage1.Starting) bool) error {
	names, err := readNames(p, o.Hostname)
	if err != nil {
		return err
	}
	binds, err := readMounts(p)
	if err != nil {
		return err
	}
	podDir, err := os.Open(p.Dir())
	if err != nil {
		return err
	}
	defer podDir.Close()
	volumes := map[string][]fstab.Bind{} // by app; there is nothing to mount them on before the app's root is there
	for _, b := range binds {
		if app, target, ok := poddir.InApp(b.Target); ok {
			b.Target = target
			volumes[app] = append(volumes[app], b)
			continue
		}
		target, err := os.OpenFile(p.Path(b.Target), unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		err = bind(podDir, b, target, nil)
		target.Close()
		if err != nil {
			return err
		}
	}
	for _, app := range apps {
		root := p.Path(poddir.RootDir + stage1.AppRoot(app.Name))
		mount := func() error {
			if err := overlay.Mount(p.Path(poddir.AppOverlay(app.Name)), root, app.Final.MountLabel); err != nil {
				return err
			}
			if err := mountDev(p, root, app, o.Interactive, users); err != nil {
				return err
			}
			if err := names.give(root); err != nil {
				return err
			}
			// Last, so that nothing is written into them above; a volume at /etc/resolv.conf
			// counts.
			all := slices.DeleteFunc(names.volumes(volumes[app.Name]), func(b fstab.Bind) bool {
				return elsewhere != nil && elsewhere(b, app.Starting)
			})
			if err := mountVolumes(podDir, root, all, users); err != nil {
				return err
			}
			return app.mountSecrets(root, all, users)
		}
		if users == nil {
			err = mount()
		} else {
			err = users.As(mount)
		}
		if err == nil {
			err = overlay.Protect(p.Path(poddir.AppOverlay(app.Name)), root)
		}
		if err != nil {
			return fmt.Errorf("app %q: %w", app.Name, err)
		}
		o.Log.Debug("mounted its root", "pod", p.UUID, "app", app.Name, "volumes", len(volumes[app.Name]))
	}
	return nil
}

// readMounts reads the pod's file of mounts.
func readMounts(p *poddir.Pod) ([]fstab.Bind, error) {
	text, err := p.ReadFile(poddir.MountsFile)
	if err != nil {
		return nil, err
	}
	binds, err := fstab.Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Path(poddir.MountsFile), err)
	}
	return binds, nil
}
