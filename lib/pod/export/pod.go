package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// App writes an ACI of the root of an app of a pod that has ended, with what the app has changed, and without volumes. The manifest is
// that of the app's image, but for its dependencies, which are in the archive. app may be "" in a pod of one app. If it returns an error,
// what was written is no such ACI: the pod may have been removed meanwhile.
func App(ctx context.Context, s *store.Store, p *poddir.Pod, app string, w io.Writer) error {
	if err := ended(p); err != nil {
		return err
	}
	text, err := p.ReadFile(poddir.ManifestFile)
	if err != nil {
		return err
	}
	var manifest schema.PodManifest
	if err := json.Unmarshal(text, &manifest); err != nil {
		return fmt.Errorf("pod %s: manifest: %w", p.UUID, err)
	}
	var names []string
	for _, a := range manifest.Apps {
		names = append(names, a.Name.String())
	}
	i, err := p.ChooseApp(names, app)
	if err != nil {
		return err
	}
	found := manifest.Apps[i]
	img, err := s.Image(found.Image.ID.String())
	if err != nil {
		return fmt.Errorf("pod %s: app %q: its image: %w", p.UUID, found.Name, err)
	}
	m := *img.Manifest
	m.Dependencies, m.PathWhitelist = nil, nil
	dir := p.Path(filepath.Join("overlay", found.Name.String()))
	if err := p.CheckFolder(filepath.Join("overlay", found.Name.String(), "upper")); err != nil {
		return err
	}
	var layers []string
	for i := 0; ; i++ {
		layer, err := os.Readlink(filepath.Join(dir, "lower", strconv.Itoa(i)))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		if !filepath.IsAbs(layer) {
			layer = filepath.Join(dir, "lower", layer)
		}
		layers = append(layers, layer)
	}
	if err := pack(ctx, &m, append(layers, filepath.Join(dir, "upper")), p.Path(poddir.RootDir), w); err != nil {
		return fmt.Errorf("pod %s: app %q: %w", p.UUID, found.Name, err)
	}
	return ended(p) // whole only if nobody has taken it away
}

// ended tells whether a pod's files change no more.
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
