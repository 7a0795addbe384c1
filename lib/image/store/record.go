package store

import (
	"context"
	"crypto/sha512"
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
	"github.com/rkt-toolkit/rkt/lib/host/durable"
)

// Record is what the store keeps of an image apart from its index and its layers, in cas/blob/<id>,
// so that the index can be made anew from blobs: the config of an OCI image, and what no blob
// tells.
type Record struct {
	ID       string
	Config   string                // path of the config, whose digest is the ID; "" if there is none, as for an ACI
	Manifest *schema.ImageManifest // for the name that an OCI image got by its first fetch; nil if it cannot be read
	// names, lowest first, for what dependencies of an ACI were; nil if they cannot be read
	Layers   []string
	Refs     []Ref                // names by which it was fetched
	Named    map[string]time.Time // by Ref's key: when it was fetched by it last
	Imported time.Time            // when the image came into the store; zero if that is not known
	Used     time.Time            // when it was last used; zero if that is not known
}

// recordFiles are the files of an image that its record has, too.
var recordFiles = []string{"config", "manifest", "layers"}

// Records lists the IDs of what may be an image of the store, sorted: those with a record, an entry
// in the index, or a layer of that name.
func (s *Store) Records() ([]string, error) {
	var ids []string
	for _, directory := range []string{"blob", "image", "layer"} {
		found, err := s.idsIn(directory)
		if err != nil {
			return nil, err
		}
		ids = append(ids, found...)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Record reads what is recorded of an image, and where that is lost or damaged, what the index has.
func (s *Store) Record(id string) Record {
	r := Record{ID: id, Named: map[string]time.Time{}}
	for _, dir := range []string{s.path("blob", id), s.path("image", id)} {
		if text, err := os.ReadFile(filepath.Join(dir, "config")); r.Config == "" && err == nil &&
			fmt.Sprintf("sha512-%x", sha512.Sum512(text)) == id {
			r.Config = filepath.Join(dir, "config")
		}
		m := new(schema.ImageManifest)
		if text, err := os.ReadFile(filepath.Join(dir, "manifest")); r.Manifest == nil && err == nil &&
			json.Unmarshal(text, m) == nil {
			r.Manifest = m
		}
		if text, err := os.ReadFile(filepath.Join(dir, "layers")); r.Layers == nil && err == nil {
			if names := strings.Fields(string(text)); !slices.ContainsFunc(names,
				func(name string) bool { return !validLayer(name) }) {
				r.Layers = names
			}
		}
	}
	for _, file := range []string{s.path("image", id, "layers"), s.path("blob", id, "layers")} {
		if info, err := os.Stat(file); err == nil && r.Imported.IsZero() {
			r.Imported = info.ModTime()
		}
	}
	if info, err := os.Stat(s.path("image", id, "manifest")); err == nil {
		r.Used = info.ModTime()
	}
	root := s.path("blob", id, "ref")
	_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil // what can be read is read
		}
		key, err := filepath.Rel(root, path)
		if info, err2 := e.Info(); err == nil && err2 == nil {
			r.Refs = append(r.Refs, Ref{Key: key, ID: id})
			r.Named[key] = info.ModTime()
		}
		return nil
	})
	return r
}

// Keep records an image of the index, and the names that the index has for it, if that has not been
// done.
func (s *Store) Keep(img *Image, refs []Ref) error {
	if err := s.keep(img.ID); err != nil {
		return err
	}
	for _, ref := range refs {
		if ref.ID != img.ID {
			continue
		}
		if err := s.keepRef(img.ID, ref.Key); err != nil {
			return err
		}
	}
	return nil
}

// keep records an image of the index. What is recorded already keeps its time. An image that is
// just being removed is not recorded.
func (s *Store) keep(id string) error {
	err := s.copyRecord(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("record of image %s: %w", id, err)
	}
	return nil
}

func (s *Store) copyRecord(id string) error {
	dir := s.path("blob", id)
	changed := false
	for _, name := range recordFiles {
		text, err := os.ReadFile(s.path("image", id, name))
		if errors.Is(err, fs.ErrNotExist) && name == "config" {
			continue
		}
		if err != nil {
			return err
		}
		file := filepath.Join(dir, name)
		if old, err := os.ReadFile(file); err == nil && string(old) == string(text) {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		changed = true
		if err := durable.WriteFile(file, text, 0o600); err != nil {
			return err
		}
		if info, err := os.Stat(s.path("image", id, name)); err == nil { // the time says when the image came
			if err := os.Chtimes(file, info.ModTime(), info.ModTime()); err != nil {
				return err
			}
		}
	}
	if !changed {
		return nil
	}
	return durable.SyncDir(filepath.Dir(dir))
}

// keepRef records a name of an image.
func (s *Store) keepRef(id, key string) error {
	file := s.path("blob", id, "ref", key)
	there, err := s.recorded(id)
	if err != nil || !there {
		return err // it is just being removed
	}
	if _, err := os.Lstat(file); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(file, nil, 0o600)
}

// recorded reports whether there is a record of an image. One is made if that has not been done:
// the image's fetch was killed, or it is an older program's.
func (s *Store) recorded(id string) (bool, error) {
	if _, err := os.Lstat(s.path("blob", id, recordFiles[len(recordFiles)-1])); err == nil {
		return true, nil
	}
	if err := s.keep(id); err != nil {
		return false, err
	}
	_, err := os.Lstat(s.path("blob", id))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// touchRef notes that an image gets a name now that it may have had before.
func (s *Store) touchRef(id, key string) error {
	now := time.Now()
	err := os.Chtimes(s.path("blob", id, "ref", key), now, now)
	if errors.Is(err, fs.ErrNotExist) { // it is just being removed
		return nil
	}
	return err
}

// dropRef takes a name from the record of an image that it no longer names.
func (s *Store) dropRef(id, key string) error {
	err := os.Remove(s.path("blob", id, "ref", key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Restore puts an image into the index again; its layers are there, and what came of them was
// compared with its ID.
func (s *Store) Restore(ctx context.Context, r Record, manifest *schema.ImageManifest, layers []string) error {
	var config []byte
	if r.Config != "" {
		var err error
		if config, err = os.ReadFile(r.Config); err != nil {
			return err
		}
	}
	if err := s.AddImage(ctx, r.ID, manifest, layers, config); err != nil {
		return err
	}
	if r.Imported.IsZero() {
		return nil
	}
	for _, dir := range []string{"image", "blob"} {
		if err := os.Chtimes(s.path(dir, r.ID, "layers"), r.Imported, r.Imported); err != nil {
			return err
		}
	}
	if r.Used.IsZero() { // as far as anybody knows now
		return nil
	}
	return os.Chtimes(s.path("image", r.ID, "manifest"), r.Used, r.Used)
}

// RestoreRef makes a name of the index mean an image again.
func (s *Store) RestoreRef(ctx context.Context, ref Ref) error { return s.writeRef(ctx, ref) }

// lost are the IDs of images that have a record, and no entry in the index.
func (s *Store) lost() ([]string, error) {
	recorded, err := s.idsIn("blob")
	if err != nil {
		return nil, err
	}
	slices.Sort(recorded)
	var ids []string
	for _, id := range recorded {
		if _, err := os.Lstat(s.path("image", id)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := os.Lstat(s.path("blob", id)); err == nil {
			// else it was just removed: the record first, then the image
			ids = append(ids, id)
		}
	}
	return ids, nil
}
