package prepare

import (
	"os"
	"path/filepath"

	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/systree"
)

// copySystemd gives the root of the pod's systemd the host's systemd as it is now, as a copy that all pods prepared
// until the next upgrade share, and returns what is to be mounted for it.
func copySystemd(p *poddir.Pod) (mounts string, err error) {
	nspawn, err := systemd.Nspawn()
	if err != nil {
		return "", err
	}
	err = systree.In(p.DataDir()).Use(stage1.Programs(nspawn), func(dir string) error {
		target, err := filepath.Rel(p.Path(filepath.Dir(poddir.SystemdLink)), dir) // so that the data directory can be moved
		if err != nil {
			return err
		}
		return os.Symlink(target, p.Path(poddir.SystemdLink))
	})
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(p.Path(poddir.SystemdLink))
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		name := filepath.Join(p.Path(poddir.RootDir), e.Name())
		switch e.Type() {
		case os.ModeDir: // on most hosts /usr alone
			mounts += fstab.Bind{Source: poddir.SystemdLink + "/" + e.Name(), Target: poddir.RootDir + "/" + e.Name(), ReadOnly: true, NoDev: true}.String()
			err = os.Mkdir(name, 0o755)
		case os.ModeSymlink: // such as lib64, which leads into it
			var target string
			if target, err = os.Readlink(filepath.Join(p.Path(poddir.SystemdLink), e.Name())); err == nil {
				err = os.Symlink(target, name)
			}
		}
		if err != nil {
			return "", err
		}
	}
	return mounts, nil
}
