package poddir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
)

// Layers tells which layers of the image store the apps of the pods lie on, in every state of a
// pod: their names, lowest first, with a space between them, and for each such list a pod that has
// it. It is what the links overlay/APP/lower/N lead to.
func (p Pods) Layers() (map[string]string, error) {
	used := map[string]string{}
	pods, err := p.All()
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		apps, err := os.ReadDir(pod.Path(OverlayDir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, app := range apps {
			layers, err := overlay.Layers(pod.Path(AppOverlay(app.Name())))
			if err != nil {
				return nil, err
			}
			for i, layer := range layers {
				layers[i] = filepath.Base(filepath.Dir(layer)) // …/cas/layer/NAME/root
			}
			if layers != nil {
				used[strings.Join(layers, " ")] = "pod " + pod.UUID
			}
		}
	}
	return used, nil
}

// Systemd returns the names of the copies of the host's systemd on which pods lie, in every state
// of a pod.
func (p Pods) Systemd() (map[string]bool, error) {
	used := map[string]bool{}
	pods, err := p.All()
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		target, err := os.Readlink(pod.Path(SystemdLink))
		if errors.Is(err, fs.ErrNotExist) { // of an older version, not prepared yet, or removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		used[filepath.Base(target)] = true
	}
	return used, nil
}
