package run

import (
	"fmt"
	"os"
	"slices"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/host/selinux"
	"github.com/rkt-toolkit/rkt/lib/network/peers"
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
	label     *selinux.Context                        // of what is mounted for the pod; nil is none
	volumes   map[string][]fstab.Bind                 // by app
	elsewhere func(fstab.Bind, *stage1.Starting) bool // whether the flavor mounts a volume itself; may be nil
}

// mountAll makes the pod's mounts in the mount namespace that the calling thread has to itself, and
// gives the apps the files in which they look names up. elsewhere reports whether the flavor mounts
// a volume itself; it may be nil.
func (s *starting) mountAll(elsewhere func(fstab.Bind, *stage1.Starting) bool) error {
	p, apps, o := s.pod, s.apps, s.o
	names, err := readNames(p, o.Hostname)
	if err != nil {
		return err
	}
	dir, err := os.Open(p.Dir())
	if err != nil {
		return err
	}
	defer dir.Close()
	m := &mounting{pod: p, dir: dir, o: o, users: s.users, names: names, label: s.label, elsewhere: elsewhere,
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
	if names.peers {
		if err := peers.Update(p.Pods()); err != nil {
			o.Warn(fmt.Sprintf("names of pods: %v", err))
		}
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
	if err := m.asUsers(func() error { return m.root(a, overlayDir, root) }); err != nil {
		return err
	}
	peers, err := m.names.ownHosts(m.pod, a, root, m.volumes[a.Name], m.label)
	if err != nil {
		return err
	}
	if err := m.asUsers(func() error { return m.inRoot(a, root, peers) }); err != nil {
		return err
	}
	return overlay.Protect(overlayDir, root)
}

// asUsers calls f with the IDs of the pod's own root, if it has one.
func (m *mounting) asUsers(f func() error) error {
	if m.users == nil {
		return f()
	}
	return m.users.As(f)
}

// root mounts the root of an app, and writes the files in it.
func (m *mounting) root(a *app, overlayDir, root string) error {
	if err := overlay.Mount(overlayDir, root, a.Final.MountLabel); err != nil {
		return err
	}
	if err := mountDev(m.pod, root, a, m.o.Interactive, m.users); err != nil {
		return err
	}
	return m.names.give(root)
}

// inRoot mounts what is in the root. Volumes come last, so that nothing is written into them; one
// at /etc/resolv.conf takes precedence over the pod's file.
func (m *mounting) inRoot(a *app, root string, peers *fstab.Bind) error {
	if peers != nil {
		if err := linkHosts(root); err != nil {
			return err
		}
	}
	volumes := slices.DeleteFunc(m.names.volumes(peers, m.volumes[a.Name]), func(b fstab.Bind) bool {
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
