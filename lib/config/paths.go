package config

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
)

// Paths are what the kind paths has, in paths.d.
type Paths struct {
	Data         string `json:"data,omitempty"`          // images and pods
	Stage1Images string `json:"stage1-images,omitempty"` // where stage1 images are
}

// ReadPaths reads paths.d of configuration directories, of which a later one wins.
func ReadPaths(dirs ...string) (Paths, error) {
	var all Paths
	for _, dir := range dirs {
		files, err := Files(dir, "paths.d", "paths")
		if err != nil {
			return Paths{}, err
		}
		var here Paths
		for _, f := range files {
			var file struct {
				head
				Paths
			}
			if err := decode(f.JSON, &file, "data, stage1-images"); err != nil {
				return Paths{}, fmt.Errorf("%s: %w", f.Path, err)
			}
			p := file.Paths
			for _, path := range []struct{ name, said, before string }{
				{"data", p.Data, here.Data}, {"stage1-images", p.Stage1Images, here.Stage1Images},
			} {
				switch {
				case path.said == "":
				case !filepath.IsAbs(path.said):
					return Paths{}, fmt.Errorf("%s: %s: %q is not an absolute path", f.Path, path.name, path.said)
				case path.before != "":
					return Paths{}, fmt.Errorf("%s: %s is in another file of the directory too", f.Path, path.name)
				}
			}
			if p == (Paths{}) {
				return Paths{}, fmt.Errorf("%s: neither data nor stage1-images", f.Path)
			}
			here = Paths{cmp.Or(here.Data, p.Data), cmp.Or(here.Stage1Images, p.Stage1Images)}
		}
		all = Paths{cmp.Or(here.Data, all.Data), cmp.Or(here.Stage1Images, all.Stage1Images)}
	}
	return all, nil
}

// Stage1 is what the kind stage1 has, in stage1.d.
type Stage1 struct {
	Name     string `json:"name,omitempty"`
	Version  string `json:"version,omitempty"` // of that name
	Location string `json:"location,omitempty"`
}

// ReadStage1 reads stage1.d of configuration directories, of which a later one wins: name and
// version together, and the location.
func ReadStage1(dirs ...string) (Stage1, error) {
	var all Stage1
	for _, dir := range dirs {
		files, err := Files(dir, "stage1.d", "stage1")
		if err != nil {
			return Stage1{}, err
		}
		var here Stage1
		for _, f := range files {
			var file struct {
				head
				Stage1
			}
			err := decode(f.JSON, &file, "name, version, location")
			s := file.Stage1
			switch {
			case err != nil:
			case (s.Name == "") != (s.Version == ""):
				err = errors.New("name and version go together")
			case s == (Stage1{}):
				err = errors.New("neither name and version nor location")
			case s.Name != "" && here.Name != "":
				err = errors.New("name and version are in another file of the directory too")
			case s.Location != "" && here.Location != "":
				err = errors.New("location is in another file of the directory too")
			}
			if err != nil {
				return Stage1{}, fmt.Errorf("%s: %w", f.Path, err)
			}
			here = Stage1{cmp.Or(here.Name, s.Name), cmp.Or(here.Version, s.Version), cmp.Or(here.Location, s.Location)}
		}
		all = Stage1{cmp.Or(here.Name, all.Name), cmp.Or(here.Version, all.Version),
			cmp.Or(here.Location, all.Location)}
	}
	return all, nil
}
