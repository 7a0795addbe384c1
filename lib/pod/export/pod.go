package export

import (
	"context"
	"fmt"
	"io"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// App writes an ACI of the root of an app of a pod that has ended, with what the app has changed,
// and without volumes. The manifest is that of the app's image, except for its dependencies, which
// are in the archive. app may be "" in a pod of one app. If it returns an error, what was written
// is no such ACI: the pod may have been removed meanwhile.
func App(ctx context.Context, s *store.Store, p *poddir.Pod, app string, w io.Writer) error {
	if err := ended(p); err != nil {
		return err
	}
	manifest, err := p.Manifest()
	if err != nil {
		return err
	}
	i, err := p.ChooseApp(manifest.AppNames(), app)
	if err != nil {
		return err
	}
	found := manifest.Apps[i]
	img, err := s.Image(found.Image.ID)
	if err != nil {
		return fmt.Errorf("pod %s: app %q: its image: %w", p.UUID, found.Name, err)
	}
	m := *img.Manifest
	m.Dependencies, m.PathWhitelist = nil, nil
	dir := poddir.AppOverlay(found.Name)
	if err := p.CheckDirectory(overlay.Upper(dir)); err != nil {
		return err
	}
	layers, err := overlay.Layers(p.Path(dir))
	if err != nil {
		return err
	}
	if err := pack(ctx, &m, append(layers, p.Path(overlay.Upper(dir))), p.Path(poddir.RootDir), w); err != nil {
		return fmt.Errorf("pod %s: app %q: %w", p.UUID, found.Name, err)
	}
	return ended(p) // whole only if nobody has taken it away
}

// ended reports whether a pod's files change no more.
func ended(p *poddir.Pod) error {
	state, err := p.State()
	if err != nil {
		return err
	}
	if !state.Ended() {
		return fmt.Errorf("pod %s: pod is not exited (its state is: %s)", p.UUID, state)
	}
	return nil
}
