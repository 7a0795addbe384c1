package run

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// mountAll makes the pod's mounts in the mount namespace that the calling thread has to itself, and gives the apps the files in which
// they look names up.
func mountAll(p *poddir.Pod, apps []*app, o Options, users *shifted) error {
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
		if app, target, ok := inApp(b.Target); ok {
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
		root := p.Path(poddir.RootDir + stage1.AppRoot(app.name))
		mount := func() error {
			if err := overlay.Mount(p.Path("overlay/"+app.name), root); err != nil {
				return err
			}
			if err := mountDev(p, root, app, o.Interactive, users); err != nil {
				return err
			}
			if err := names.give(root); err != nil {
				return err
			}
			// Last, so that nothing is written into them above; a volume at /etc/resolv.conf counts.
			all := slices.DeleteFunc(names.volumes(volumes[app.name]), func(b fstab.Bind) bool {
				return isSlave(b, app, users != nil)
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
			err = overlay.Protect(p.Path("overlay/"+app.name), root)
		}
		if err != nil {
			return fmt.Errorf("app %q: %w", app.name, err)
		}
		o.Log.Debug("mounted its root", "pod", p.UUID, "app", app.name, "volumes", len(volumes[app.name]))
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

// ownDirs gives systemd-nspawn directories of its own for what it keeps while the pod runs, which is for nobody else:
// the lock of the pod's root, whose pod has one; mounts on their way into the pod, which nothing of the host's can
// reach; sockets of the pod's, and mount points. They go with the last of the pod's processes. On the host they would
// stay after a kill, and systemd-nspawn removes nothing from a /run that is not a tmpfs.
//
// Where argv or the pod's directory name something below /tmp, that stays visible.
func ownDirs(p *poddir.Pod, argv []string) error {
	dirs := []string{"/run/systemd/nspawn"}
	if !namesBelow("/tmp", append(slices.Clone(argv), p.Dir())) {
		dirs = append(dirs, "/tmp")
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("tmpfs on %s: %w", dir, err)
		}
	}
	return nil
}

// namesBelow reports whether one of words is a path below dir, or has one after "=" or ":".
func namesBelow(dir string, words []string) bool {
	return slices.ContainsFunc(words, func(word string) bool {
		return slices.ContainsFunc(strings.FieldsFunc(word, func(r rune) bool { return r == '=' || r == ':' }), func(path string) bool {
			return strings.HasPrefix(filepath.Clean(path), dir+"/")
		})
	})
}
