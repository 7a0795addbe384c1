package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/rkt-toolkit/rkt/lib/fstab"
	"github.com/rkt-toolkit/rkt/lib/overlay"
	"github.com/rkt-toolkit/rkt/lib/pod"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// mountAll makes the pod's mounts in the mount namespace that the calling thread has to itself, and gives the apps the files in which
// they look names up.
func mountAll(p *pod.Pod, o Options, users *shifted) error {
	names, err := readNames(p, o.Hostname)
	if err != nil {
		return err
	}
	text, err := p.ReadFile(pod.MountsFile)
	if err != nil {
		return err
	}
	binds, err := fstab.Parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", p.Path(pod.MountsFile), err)
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
	apps, err := os.ReadDir(p.Path("overlay"))
	if err != nil {
		return err
	}
	for _, app := range apps {
		root := p.Path(pod.RootDir + stage1.AppRoot(app.Name()))
		mount := func() error {
			if err := overlay.Mount(p.Path("overlay/"+app.Name()), root); err != nil {
				return err
			}
			if err := mountDev(root, o.Interactive, users); err != nil {
				return err
			}
			if err := names.give(root); err != nil {
				return err
			}
			// Last, so that nothing is written into them above; a volume at /etc/resolv.conf counts.
			return mountVolumes(podDir, root, volumes[app.Name()], users)
		}
		if users == nil {
			err = mount()
		} else {
			err = users.As(mount)
		}
		if err == nil {
			err = overlay.Protect(p.Path("overlay/"+app.Name()), root)
		}
		if err != nil {
			return fmt.Errorf("app %q: %w", app.Name(), err)
		}
		o.Log.Debug("mounted its root", "pod", p.UUID, "app", app.Name(), "volumes", len(volumes[app.Name()]))
	}
	return nspawnRuntime()
}

// nspawnRuntime gives systemd-nspawn a tmpfs for what it keeps under /run where the host's own /run is none: it refuses to remove
// anything from a file system on a disk, complains, and leaves a folder for each pod.
func nspawnRuntime() error {
	var st unix.Statfs_t
	if err := unix.Statfs("/run", &st); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("/run: %w", err)
	}
	if st.Type == unix.TMPFS_MAGIC {
		return nil
	}
	const dir = "/run/systemd/nspawn"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("tmpfs on %s: %w", dir, err)
	}
	return nil
}
