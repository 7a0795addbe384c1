package fetch

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/image/trust"
	"golang.org/x/sys/unix"
)

const (
	maxManifest = 8 << 20 // bytes of a manifest or index
	maxNesting  = 4       // indexes in indexes

	refName        = "org.opencontainers.image.ref.name" // image-spec, annotations.md
	containerdName = "io.containerd.image.name"          // what docker save calls an image in full
)

// files opens a file of a layout by its name there. The error is or wraps os.ErrNotExist if there
// is no such file.
type files func(name string) (io.ReadCloser, error)

// fromLayout fetches from an OCI image layout in a directory.
func fromLayout(ctx context.Context, s *store.Store, ref image.Reference, o Options) (fetched, error) {
	return files(func(name string) (io.ReadCloser, error) {
		return openRegular(filepath.Join(ref.Path, name))
	}).fetch(ctx, s, ref, o)
}

// fetch fetches from an OCI image layout (image-spec, image-layout.md).
func (open files) fetch(ctx context.Context, s *store.Store, ref image.Reference, o Options) (fetched, error) {
	get := func(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
		return open("blobs/" + d.Digest.Algorithm + "/" + d.Digest.Hex)
	}
	var index v1.IndexManifest
	err := open.readJSON(ctx, "index.json", &index)
	if errors.Is(err, os.ErrNotExist) {
		return fetched{}, fmt.Errorf("not an OCI image layout: %w", err)
	}
	if err != nil {
		return fetched{}, err
	}
	manifest, digests, err := findManifest(ctx, ref, o.Platform, index, get)
	if err != nil {
		return fetched{}, err
	}
	var got fetched
	if !o.InsecureImage {
		c := &cosign{keys: o.Keys, get: get, image: trust.Image{Digests: digests}}
		if err := verifyLayout(ctx, index, c); err != nil {
			return fetched{}, err
		}
		got.by = &c.by
	}
	got.id, err = addOCI(ctx, s, ref, o, manifest, get)
	return got, err
}

// readJSON reads a small file of a layout.
func (open files) readJSON(ctx context.Context, name string, v any) error {
	f, err := open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := readSmall(&verifier{ctx: ctx, r: f, size: -1}, maxManifest)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// findManifest finds the manifest of a tag, or of the only image. The digests are those of it and
// of the indexes on the way to it.
func findManifest(ctx context.Context, ref image.Reference, p Platform, index v1.IndexManifest,
	get blobs) (*v1.Manifest, []string, error) {
	candidates := index.Manifests
	if ref.Tag != "" {
		candidates = nil
		for _, d := range index.Manifests {
			if d.Annotations[refName] == ref.Tag || sameName(d.Annotations[containerdName], ref.Tag) {
				candidates = append(candidates, d)
			}
		}
		if len(candidates) == 0 {
			return nil, nil, fmt.Errorf("no image of tag %q in it (it has %s)", ref.Tag, tags(index.Manifests))
		}
	}
	d, err := choose(candidates, p)
	if err != nil {
		return nil, nil, err
	}
	var digests []string
	for range maxNesting {
		data, err := blobs(get).read(ctx, d, maxManifest)
		if err != nil {
			return nil, nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
		digests = append(digests, d.Digest.String())
		if d.MediaType.IsImage() {
			m, err := parseManifest(data)
			return m, digests, err
		}
		if !d.MediaType.IsIndex() {
			return nil, nil, fmt.Errorf("manifest %s: type %q is not an image", d.Digest, d.MediaType)
		}
		var index v1.IndexManifest
		if err := json.Unmarshal(data, &index); err != nil {
			return nil, nil, fmt.Errorf("index %s: %w", d.Digest, err)
		}
		if d, err = choose(index.Manifests, p); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, errors.New("indexes in indexes without end")
}

// choose finds the one image for a machine. What says nothing of a machine is taken when nothing
// else is there.
func choose(all []v1.Descriptor, p Platform) (v1.Descriptor, error) {
	want := p.v1()
	all = slices.DeleteFunc(slices.Clone(all), attached)
	var fit []v1.Descriptor
	for _, d := range all {
		if d.Platform != nil && d.Platform.Satisfies(want) {
			fit = append(fit, d)
		}
	}
	if len(fit) == 0 {
		for _, d := range all {
			if d.Platform == nil {
				fit = append(fit, d)
			}
		}
	}
	switch len(fit) {
	case 0:
		return v1.Descriptor{}, fmt.Errorf("no image for %s in it", p)
	case 1:
		return fit[0], nil
	}
	if fit[0].Platform != nil && fit[0].Annotations[refName] == fit[1].Annotations[refName] {
		return fit[0], nil // variants of one architecture: the first, as image-index.md has it
	}
	return v1.Descriptor{}, fmt.Errorf("more than one image in it: name one with :TAG at the end (it has %s)",
		tags(fit))
}

func tags(all []v1.Descriptor) string {
	var names []string
	for _, d := range all {
		if tag := cmp.Or(d.Annotations[containerdName], d.Annotations[refName]); tag != "" {
			names = append(names, tag)
		}
	}
	if names == nil {
		return "no tags"
	}
	return strings.Join(names, ", ")
}

// openRegular opens a file for reading and never waits for a fifo.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
