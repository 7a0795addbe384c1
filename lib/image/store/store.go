// Package store is the image store, the directory cas of the data directory; docs/internals.md has
// its layout. It needs no database and no lock to be read: what is there under its final name is
// complete.
package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/image"
	_ "github.com/rkt-toolkit/rkt/lib/image/isolator" // manifests may have it
)

// ErrNotFound says that an image, or a name of one, is not in the store.
var ErrNotFound = errors.New("not in the store")

// format is what cas/version holds, and what this package reads and writes.
const format = "2\n"

// ValidID reports whether a text is an image's ID.
func ValidID(s string) bool { return image.Hex(s, "sha512-", 128, 128) }

func validLayer(s string) bool {
	return image.Hex(s, "sha256-", 64, 64) || ValidID(s) || image.Hex(s, "part-", 128, 128)
}

// Store is an image store on disk. Any number of processes may use one at a time.
type Store struct{ cas string }

// Image is a complete image.
type Image struct {
	ID       string // "sha512-" and 128 hex digits
	Manifest *schema.ImageManifest
	Layers   []string // absolute paths of the unpacked layers, lowest first, no path twice
	Config   string   // path of the OCI image config; there is no such file for an ACI

	manifest, layers []byte // the files that Manifest and Layers were read from
}

// Open opens the store of a data directory. A store that does not exist yet is an empty one; adding
// to it makes it. One that is of another format is refused.
func Open(dataDir string) (*Store, error) {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dataDir, err)
	}
	s := &Store{cas: filepath.Join(dir, "cas")}
	got, err := os.ReadFile(s.path("version"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	if string(got) != format {
		return nil, fmt.Errorf("%s: format %q, and this program knows only %q; move the directory away, or use the "+
			"program that made it", s.cas, bytes.TrimSpace(got), strings.TrimSpace(format))
	}
	return s, nil
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.cas}, elem...)...)
}

// LayerPath is where the directory of a layer ("sha256-…" by diff ID, "sha512-…" for an ACI,
// "part-…" for what another image takes of one) is when it is in the store.
func (s *Store) LayerPath(name string) string { return s.path("layer", name, layerRoot) }

// LayerName is the name of the layer that LayerPath gave the path of.
func LayerName(path string) string { return filepath.Base(filepath.Dir(path)) }

// LayerFile is where something else is that is kept with a layer.
func (s *Store) LayerFile(name, file string) string { return s.path("layer", name, file) }

const layerRoot = "root"

// HasLayer reports whether the layer of that name is in the store.
func (s *Store) HasLayer(name string) bool {
	info, err := os.Lstat(s.LayerPath(name))
	return err == nil && info.IsDir()
}

// Image opens an image by its ID or a unique prefix of it, and checks that all of it is there. The
// error is or wraps ErrNotFound if there is no such image.
func (s *Store) Image(id string) (*Image, error) {
	id, err := s.complete(id)
	if err != nil {
		return nil, err
	}
	img := &Image{ID: id, Config: s.path("image", id, "config")}
	text, err := os.ReadFile(s.path("image", id, "manifest"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	img.Manifest, img.manifest = new(schema.ImageManifest), text
	if err := json.Unmarshal(text, img.Manifest); err != nil {
		return nil, fmt.Errorf("damaged: %s: %w", s.path("image", id, "manifest"), err)
	}
	list, err := os.ReadFile(s.path("image", id, "layers"))
	if err != nil {
		return nil, fmt.Errorf("damaged: %w", err)
	}
	img.layers = list
	for name := range strings.Lines(string(list)) {
		name = strings.TrimSuffix(name, "\n")
		if !validLayer(name) {
			return nil, fmt.Errorf("damaged: %s: %q is not a layer", s.path("image", id, "layers"), name)
		}
		if !s.HasLayer(name) {
			return nil, fmt.Errorf("incomplete: layer %s is missing; fetch the image again", name)
		}
		img.Layers = append(img.Layers, s.LayerPath(name))
	}
	return img, nil
}

// complete turns a prefix of an ID into the ID of the one image in the store that has it.
func (s *Store) complete(prefix string) (string, error) {
	if ValidID(prefix) {
		return prefix, nil
	}
	if ref, err := image.ParseReference(prefix); err != nil || ref.Kind != image.ID {
		return "", fmt.Errorf("%q is not an image ID", prefix)
	}
	names, err := s.idsIn("image")
	if err != nil {
		return "", err
	}
	found := ""
	for _, name := range names {
		switch {
		case !strings.HasPrefix(name, prefix):
		case found != "":
			return "", errors.New("ambiguous image ID: more than one begins so")
		default:
			found = name
		}
	}
	if found == "" {
		return "", ErrNotFound
	}
	return found, nil
}

// Lookup finds the ID of the image that a reference named when it was fetched last, or that an ID
// or its prefix names. The image may be gone all the same: Image tells. An appc name with a version
// is also that of an image that came by another way, as in rkt. The error is or wraps ErrNotFound
// if the store does not know the name.
func (s *Store) Lookup(ref image.Reference) (string, error) {
	if ref.Kind == image.ID {
		return s.complete(ref.ID)
	}
	text, err := os.ReadFile(s.path("ref", ref.Key()))
	if errors.Is(err, fs.ErrNotExist) && ref.Kind == image.Appc && ref.Version != "" {
		// That of an image of a registry means what its tag means now.
		if tag, ok := image.ParseKey(string(image.Docker) + "/" + ref.App + ":" + ref.Version); ok &&
			len(ref.Labels) == 0 {
			if text, err := os.ReadFile(s.path("ref", tag.Key())); err == nil &&
				s.hasImage(strings.TrimSpace(string(text))) {
				return strings.TrimSpace(string(text)), nil
			}
		}
		return s.Find(ref)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", err
	}
	id := strings.TrimSuffix(string(text), "\n")
	if !ValidID(id) {
		return "", fmt.Errorf("damaged: %s: no image ID in it", s.path("ref", ref.Key()))
	}
	return id, nil
}

func (s *Store) hasImage(id string) bool {
	_, err := os.Lstat(s.path("image", id))
	return ValidID(id) && err == nil
}

// Find finds the newest whole image whose manifest has an appc reference's name, version and
// labels, those that are given. The error is or wraps ErrNotFound if there is none.
func (s *Store) Find(ref image.Reference) (string, error) {
	ids, err := s.Described(ref)
	if err == nil && len(ids) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

// Described are the IDs of all whole images whose manifest has an appc reference's name, version
// and labels, newest first.
func (s *Store) Described(ref image.Reference) ([]string, error) {
	ids, err := s.Images()
	if err != nil {
		return nil, err
	}
	return newest(ids, func(id string) (time.Time, bool) {
		file := s.path("image", id, "manifest")
		text, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(text, []byte(`"`+ref.App+`"`)) { // which spares reading the others as JSON
			return time.Time{}, false
		}
		info, err := os.Stat(file)
		if err != nil {
			return time.Time{}, false
		}
		img, err := s.Image(id)
		return info.ModTime(), err == nil && ref.Describes(img.Manifest) == nil
	}), nil
}

// Used notes that an image is used now.
func (s *Store) Used(id string) error {
	now := time.Now()
	return os.Chtimes(s.path("image", id, "manifest"), now, now)
}

// Times are when an image came into the store and when it was used last, in nanoseconds since 1970;
// 0 for an image that is not there.
func (s *Store) Times(id string) (imported, used int64) {
	if info, err := os.Stat(s.path("image", id, "layers")); err == nil {
		imported = info.ModTime().UnixNano()
	}
	if info, err := os.Stat(s.path("image", id, "manifest")); err == nil {
		used = info.ModTime().UnixNano()
	}
	return imported, used
}

// Images lists the IDs of all images, sorted.
func (s *Store) Images() ([]string, error) {
	ids, err := s.idsIn("image")
	slices.Sort(ids)
	return ids, err
}

// idsIn lists the names in a directory of the store that are IDs.
func (s *Store) idsIn(directory string) ([]string, error) {
	dir, err := os.Open(s.path(directory))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	return slices.DeleteFunc(names, func(name string) bool { return !ValidID(name) }), err
}
