package place

import (
	"errors"
	"path"
	"slices"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// GiveHelpers gives a pod the programs that its root has besides those of its apps: rkt-stage2, and
// rkt-attach if somebody can attach to an app. It is an error if that is not installed.
func GiveHelpers(t *stage1.Tree, s stage1.Spec) error {
	helpers := []struct{ source, file string }{{s.Stage2, stage1.Stage2}}
	if slices.ContainsFunc(s.Apps, stage1.App.Attachable) {
		if s.Attacher == "" {
			return errors.New("rkt-attach, by which one could attach to the apps, is not installed")
		}
		helpers = append(helpers, struct{ source, file string }{s.Attacher, stage1.AttachFile})
	}
	for _, h := range helpers {
		name := path.Join(poddir.RootDir, h.file)
		t.Files = append(t.Files, stage1.File{Name: name, Mode: 0o755})
		t.Binds = append(t.Binds, fstab.Bind{Source: h.source, Target: name, ReadOnly: true, NoDev: true})
	}
	return nil
}
