package gc

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// data describes the volumes of a pod that are removed with it and are not empty, such as one that
// an image asks for and no directory was mounted for; "" if there is none.
func data(p *poddir.Pod) string {
	root, err := os.OpenRoot(p.Dir())
	if err != nil {
		return ""
	}
	defer root.Close()
	names, err := entries(root, poddir.VolumesDir, -1)
	if err != nil {
		return ""
	}
	slices.Sort(names)
	places := mounted(p)
	var list []string
	for _, name := range names {
		if some, err := entries(root, poddir.VolumesDir+"/"+name, 1); err == nil && len(some) > 0 {
			list = append(list, name+places[name])
		}
	}
	return strings.Join(list, ", ")
}

// entries returns up to n names in a directory of the pod.
func entries(root *os.Root, name string, n int) ([]string, error) {
	dir, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(n)
}

// mounted tells of each volume where the pod's apps have it, as text to follow its name.
func mounted(p *poddir.Pod) map[string]string {
	manifest, err := p.Manifest()
	if err != nil {
		return nil
	}
	places := map[string]string{}
	for _, app := range manifest.Apps {
		for _, m := range app.Mounts {
			if places[m.Volume] == "" {
				places[m.Volume] = fmt.Sprintf(" (%q)", m.Path)
			}
		}
	}
	return places
}
