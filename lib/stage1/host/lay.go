package host

import (
	"os"
	"path/filepath"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/systree"
)

// Lay gives the root of the pod's systemd the host's systemd as it is now, as a copy that all pods
// prepared until the next upgrade share.
func (Flavor) Lay(p *poddir.Pod) (mounts []fstab.Bind, err error) {
	nspawn, err := Nspawn()
	if err != nil {
		return nil, err
	}
	err = systree.In(p.DataDir()).Use(Programs(nspawn), func(dir string) error {
		// so that the data directory can be moved
		target, err := filepath.Rel(p.Path(filepath.Dir(poddir.SystemdLink)), dir)
		if err != nil {
			return err
		}
		return os.Symlink(target, p.Path(poddir.SystemdLink))
	})
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(p.Path(poddir.SystemdLink))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := filepath.Join(p.Path(poddir.RootDir), e.Name())
		switch e.Type() {
		case os.ModeDir: // on most hosts /usr alone
			mounts = append(mounts, fstab.Bind{Source: poddir.SystemdLink + "/" + e.Name(), Target: poddir.RootDir +
				"/" + e.Name(), ReadOnly: true, NoDev: true})
			err = os.Mkdir(name, 0o755)
		case os.ModeSymlink: // such as lib64, which leads into it
			var target string
			if target, err = os.Readlink(filepath.Join(p.Path(poddir.SystemdLink), e.Name())); err == nil {
				err = os.Symlink(target, name)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return mounts, nil
}
