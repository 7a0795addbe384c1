// Package index makes the index of a store anew from the store's blobs: the directories image and
// ref of docs/images.md, from layers, configs and records. Nothing gets into the index that was not
// compared with what its digest says.
package index

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/part"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/image/verify"
)

// Rebuild brings back the images and names that the index of a store has lost, or has in a damaged
// form. What is whole it leaves alone, and records of it what is not recorded yet. It can be killed
// at any time and run again, and other programs can use the store meanwhile. It tells of each image
// and name that it brings back, and the error is of those that it cannot.
func Rebuild(ctx context.Context, s *store.Store, image, name func(store.Ref)) error {
	ids, err := s.Records()
	if err != nil {
		return err
	}
	refs, err := s.Refs()
	if err != nil {
		return err
	}
	var errs []error
	named := map[string]store.Record{} // by a name's key: of the images that have it, the one that got it last
	for _, id := range ids {
		record := s.Record(id)
		back, err := restore(ctx, s, record, refs)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("image %s: %w", id, err))
			continue
		}
		if back {
			image(store.Ref{ID: id})
		}
		for key, time := range record.Named {
			if other, ok := named[key]; !ok || time.After(other.Named[key]) {
				named[key] = record
			}
		}
	}
	good := map[string]bool{}
	for _, ref := range refs {
		if _, err := s.Image(ref.ID); err == nil {
			good[ref.Key] = true
		}
		if _, ok := named[ref.Key]; !ok && !store.ValidID(ref.ID) {
			errs = append(errs, fmt.Errorf("name %s: damaged, and nothing records what it was: fetch it again",
				ref.Key))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(named)) {
		if good[key] {
			continue
		}
		ref := store.Ref{Key: key, ID: named[key].ID}
		if err := s.RestoreRef(ctx, ref); err != nil {
			errs = append(errs, fmt.Errorf("name %s: %w", key, err))
			continue
		}
		name(ref)
	}
	return errors.Join(errs...)
}

// restore brings one image back into the index, if it is not whole there.
func restore(ctx context.Context, s *store.Store, r store.Record, refs []store.Ref) (back bool, err error) {
	if img, err := s.Image(r.ID); err == nil && s.Check(img) == nil {
		return false, s.Keep(img, refs)
	}
	var problems []error
	v := verify.New(s, func(problem string) { problems = append(problems, errors.New(problem)) })
	damaged := func() error {
		return errors.Join(append(problems, errors.New("damaged (rkt image rm and rkt fetch replace it)"))...)
	}
	var manifest *schema.ImageManifest
	var layers []string
	switch {
	case r.Config != "":
		if manifest, layers, err = fromConfig(ctx, s, r); err != nil {
			return false, err
		}
	case s.HasLayer(r.ID):
		var whole bool
		if manifest, whole, err = v.ACI(ctx, r.ID); err != nil {
			return false, err
		}
		if !whole {
			return false, damaged()
		}
		if len(r.Layers) > 0 && own(s, r.ID, r.Layers[len(r.Layers)-1]) { // else it was cut
			layers = r.Layers
		}
		if lonely := len(manifest.Dependencies) == 0 && len(manifest.PathWhitelist) == 0; layers == nil && lonely {
			layers = []string{r.ID}
		}
		if layers == nil && r.Manifest == nil {
			// no image, but what a fetch has left that did not get what it depends on
			return false, nil
		}
		if layers == nil {
			return false, errors.New("what it depends on is not recorded: fetch it again")
		}
	default:
		return false, errors.New("neither its config nor its layer is there: fetch it again")
	}
	img := &store.Image{ID: r.ID, Manifest: manifest, Config: r.Config}
	if r.Config == "" {
		img.Config = s.LayerFile(r.ID, "config") // there is none
	}
	for _, name := range layers {
		if !s.HasLayer(name) {
			return false, fmt.Errorf("incomplete: layer %s is missing: fetch the image again", name)
		}
		img.Layers = append(img.Layers, s.LayerPath(name))
	}
	whole, err := v.Image(ctx, img)
	if err != nil {
		return false, err
	}
	if !whole {
		return false, damaged()
	}
	return true, s.Restore(ctx, r, manifest, layers)
}

// own reports whether a layer is that of an ACI, or a part of it.
func own(s *store.Store, id, layer string) bool {
	if !strings.HasPrefix(layer, "part-") {
		return layer == id
	}
	text, err := os.ReadFile(s.LayerFile(layer, part.File))
	if err != nil {
		return false
	}
	p, err := part.Parse(text)
	return err == nil && p.ID == id
}

// fromConfig makes of the config of an OCI image what the index has of it. Only its name is from
// the record.
func fromConfig(ctx context.Context, s *store.Store, r store.Record) (*schema.ImageManifest, []string, error) {
	config, err := os.ReadFile(r.Config)
	if err != nil {
		return nil, nil, err
	}
	manifest, err := image.FromOCI(config, firstName(r))
	if err != nil {
		return nil, nil, err
	}
	if r.Manifest != nil {
		manifest.Name = r.Manifest.Name
		manifest.Labels = slices.DeleteFunc(manifest.Labels, func(l types.Label) bool { return l.Name == "version" })
		if version, ok := r.Manifest.Labels.Get("version"); ok {
			manifest.Labels = append(types.Labels{{Name: "version", Value: version}}, manifest.Labels...)
		}
	}
	var c struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, nil, fmt.Errorf("config: %w", err)
	}
	var names []string
	for _, id := range c.RootFS.DiffIDs {
		name := strings.Replace(id, ":", "-", 1)
		if strings.ContainsRune(name, filepath.Separator) {
			return nil, nil, fmt.Errorf("config: diff ID %q", id)
		}
		if !s.HasLayer(name) {
			return nil, nil, fmt.Errorf("incomplete: layer %s is missing: fetch the image again", name)
		}
		names = append(names, name)
	}
	layers, err := part.Stack(names, s.LayerPath, func(p part.Part) (string, error) { return s.AddPart(ctx, p) })
	return manifest, layers, err
}

// firstName is a reference that gives an image a name if its manifest is lost: the first in the
// record that says one, else none.
func firstName(r store.Record) image.Reference {
	for _, ref := range r.Refs {
		if name, ok := strings.CutPrefix(ref.Key, string(image.Docker)+"/"); ok {
			if ref, err := image.ParseReference("docker://" + name); err == nil {
				return ref
			}
		}
	}
	return image.Reference{Kind: image.Docker, Host: "unknown", Repository: "unknown"}
}
