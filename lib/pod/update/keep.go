package update

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Users returns who uses the layers of images: pods, and updates, of which each may go back to the
// images that were in use before it.
func Users(pods poddir.Pods, s *store.Store) (store.Users, error) {
	ids, err := s.Images()
	if err != nil {
		return nil, err
	}
	layers := map[string]string{}
	for _, id := range ids {
		if layers[id], err = s.Layers(id); err != nil { // one that is damaged is told of by others
			delete(layers, id)
		}
	}
	return func() (map[string]string, error) {
		used, err := pods.Layers()
		if err != nil {
			return nil, err
		}
		records, err := filepath.Glob(filepath.Join(pods.DataDir(), "update", "*.json"))
		for _, path := range records {
			var r Result // record has its images by the same name
			if err := read(path, &r); err != nil {
				if os.IsNotExist(err) {
					continue
				}
				return nil, err
			}
			for _, img := range r.Images {
				if list, ok := layers[img.Old]; ok {
					used[list] = "the way back of " + strings.SplitN(filepath.Base(path), ".json", 2)[0]
				}
			}
		}
		return used, err
	}, nil
}
