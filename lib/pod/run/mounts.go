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

// mounting is a pod whose mounts are being made.
type mounting struct {
	pod       *poddir.Pod
	dir       *os.File // the pod's
	o         Options
	users     *shifted                                // nil is the host's
	names     *names                                  // in which apps look names up
	volumes   map[string][]fstab.Bind                 // by app
	elsewhere func(fstab.Bind, *stage1.Starting) bool // whether the flavor mounts a volume itself; may be nil
}

// mountAll makes the pod's mounts in the mount namespace that the calling thread has to itself, and
// gives the apps the files in which they look names up. elsewhere reports whether the flavor mounts
// a volume itself; it may be nil.
func mountAll(p *poddir.Pod, apps []*app, o Options, users *shifted,
	elsewhere func(fstab.Bind, *stage1.Starting) bool) error {
	names, err := readNames(p, o.Hostname)
	if err != nil {
		return err
	}
	dir, err := os.Open(p.Dir())
	if err != nil {
		return err
	}
	defer dir.Close()
	m := &mounting{pod: p, dir: dir, o: o, users: users, names: names, elsewhere: elsewhere,
		volumes: map[string][]fstab.Bind{}}
	if err := m.ofPod(); err != nil {
		return err
	}
	for _, app := range apps {
		if err := m.ofApp(app); err != nil {
			return fmt.Errorf("app %q: %w", app.Name, err)
		}
		o.Log.Debug("mounted its root", "pod", p.UUID, "app", app.Name, "volumes", len(m.volumes[app.Name]))
	}
	return nil
}

// ofPod makes the mounts in the pod's own root. Volumes of apps are left for later: there is
// nothing to mount them on before the app's root is there.
func (m *mounting) ofPod() error {
	binds, err := readMounts(m.pod)
	if err != nil {
		return err
	}
	for _, b := range binds {
		if app, target, ok := poddir.InApp(b.Target); ok {
			b.Target = target
			m.volumes[app] = append(m.volumes[app], b)
			continue
		}
		target, err := os.OpenFile(m.pod.Path(b.Target), unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		err = bind(m.dir, b, target, nil)
		target.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// ofApp mounts the root of an app and what is in it.
func (m *mounting) ofApp(a *app) error {
	overlayDir, root := m.pod.Path(poddir.AppOverlay(a.Name)), m.pod.Path(poddir.RootDir+stage1.AppRoot(a.Name))
	mount := func() error { return m.inRoot(a, overlayDir, root) }
	var err error
	if m.users == nil {
		err = mount()
	} else {
		err = m.users.As(mount)
	}
	if err != nil {
		return err
	}
	return overlay.Protect(overlayDir, root)
}

// inRoot mounts the root, and then in it. Volumes come last, so that nothing is written into them;
// one at /etc/resolv.conf takes precedence over the pod's file.
func (m *mounting) inRoot(a *app, overlayDir, root string) error {
	if err := overlay.Mount(overlayDir, root, a.Final.MountLabel); err != nil {
		return err
	}
	if err := mountDev(m.pod, root, a, m.o.Interactive, m.users); err != nil {
		return err
	}
	if err := m.names.give(root); err != nil {
		return err
	}
	volumes := slices.DeleteFunc(m.names.volumes(m.volumes[a.Name]), func(b fstab.Bind) bool {
		return m.elsewhere != nil && m.elsewhere(b, a.Starting)
	})
	if err := mountVolumes(m.dir, root, volumes, m.users); err != nil {
		return err
	}
	return a.mountSecrets(root, volumes, m.users)
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
