package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/part"
	"github.com/rkt-toolkit/rkt/lib/image/store"
)

const (
	maxConfig = 8 << 20 // bytes of a config blob
	maxLayers = 500     // as many as overlayfs stacks (OVL_MAX_STACK)
)

// blobs opens a blob of an image. What it returns need not be what the descriptor promises.
type blobs func(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)

// open opens a blob and checks it while it is read.
func (get blobs) open(ctx context.Context, d v1.Descriptor, progress func(Progress)) (*verifier, io.Closer, error) {
	if d.Digest.Algorithm != "sha256" {
		return nil, nil, fmt.Errorf("digest %q: only sha256 is known", d.Digest)
	}
	if d.Size < 0 {
		return nil, nil, fmt.Errorf("a size of %d bytes", d.Size)
	}
	ctx, cancel := context.WithCancel(ctx)
	r, err := get(ctx, d)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	v := &verifier{ctx: ctx, cancel: cancel, r: r, digest: d.Digest.String(), hash: sha256.New(), size: d.Size}
	if progress != nil {
		v.progress = func(got int64) { progress(Progress{Blob: d.Digest.String(), Got: got, Size: d.Size}) }
		v.progress(0)
	}
	return v, closer{cancel, r}, nil
}

type closer struct {
	cancel func()
	r      io.Closer
}

func (c closer) Close() error {
	c.cancel()
	return c.r.Close()
}

// read reads a blob that is to be held in memory, checked.
func (get blobs) read(ctx context.Context, d v1.Descriptor, max int64) ([]byte, error) {
	v, c, err := get.open(ctx, d, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return readSmall(v, max)
}

// addOCI puts an image with that manifest into the store and returns its ID, the SHA-512 of its
// config.
func addOCI(ctx context.Context, s *store.Store, ref image.Reference, o Options, m *v1.Manifest, get blobs) (string,
	error) {
	switch m.Config.MediaType {
	case types.OCIConfigJSON, types.DockerConfigJSON:
	default: // registries hold charts, signatures and more that have a manifest
		return "", fmt.Errorf("not an image of a file system (its config is of type %q)", m.Config.MediaType)
	}
	if id, ok := unchanged(s, ref, m.Config.Digest); ok {
		return id, nil
	}
	configJSON, err := get.read(ctx, m.Config, maxConfig)
	if err != nil {
		return "", fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	id := fmt.Sprintf("sha512-%x", sha512.Sum512(configJSON))
	if _, err := s.Image(id); err == nil {
		return id, nil // under another name
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(configJSON))
	if err != nil {
		return "", fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	if err := o.Platform.check(config.OS, config.Architecture, config.Variant); err != nil {
		return "", err
	}
	diffIDs := config.RootFS.DiffIDs
	if len(diffIDs) != len(m.Layers) {
		return "", fmt.Errorf("manifest and config disagree: %d layers, %d diff IDs", len(m.Layers), len(diffIDs))
	}
	if len(diffIDs) > maxLayers {
		return "", fmt.Errorf("%d layers (%d is the most)", len(diffIDs), maxLayers)
	}
	appc, err := image.FromOCI(configJSON, ref)
	if err != nil {
		return "", err
	}
	names, err := addLayers(ctx, s, o, m.Layers, diffIDs, get)
	if err != nil {
		return "", err
	}
	return id, s.AddImage(ctx, id, appc, names, configJSON)
}

// unchanged tells, without the config itself, that a reference still names the image in the store.
func unchanged(s *store.Store, ref image.Reference, config v1.Hash) (string, bool) {
	id, err := s.Lookup(ref)
	if err != nil {
		return "", false
	}
	img, err := s.Image(id)
	if err != nil {
		return "", false
	}
	old, err := os.ReadFile(img.Config)
	return id, err == nil && fmt.Sprintf("sha256:%x", sha256.Sum256(old)) == config.String()
}

// addLayers puts the layers into the store that are not there yet, some at a time, and returns the
// names of those that are seen, lowest first.
func addLayers(ctx context.Context, s *store.Store, o Options, layers []v1.Descriptor, diffIDs []v1.Hash,
	get blobs) ([]string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	turns := make(chan struct{}, parallel)
	names := make([]string, len(layers))
	begun := map[string]bool{}
	for i, d := range layers {
		if diffIDs[i].Algorithm != "sha256" {
			cancel(fmt.Errorf("diff ID %q: only sha256 is known", diffIDs[i]))
			break
		}
		name := "sha256-" + diffIDs[i].Hex
		names[i] = name
		if begun[name] || s.HasLayer(name) {
			continue
		}
		begun[name] = true
		wait.Go(func() {
			select {
			case turns <- struct{}{}:
				defer func() { <-turns }()
			case <-ctx.Done():
				return
			}
			err := s.AddLayer(ctx, name, func(l *store.Layer) error {
				return pull(ctx, l, o, d, diffIDs[i], get)
			})
			if err != nil {
				cancel(fmt.Errorf("layer %s: %w", d.Digest, err))
			}
		})
	}
	wait.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return part.Stack(names, s.LayerPath, func(p part.Part) (string, error) { return s.AddPart(ctx, p) })
}

// pull unpacks one layer.
func pull(ctx context.Context, l *store.Layer, o Options, d v1.Descriptor, diffID v1.Hash, get blobs) error {
	v, c, err := get.open(ctx, d, o.Progress)
	if err != nil {
		return err
	}
	defer c.Close()
	h := sha256.New()
	limits := unpackLimits(o, d.Size)
	limits.Whiteouts, limits.MarkImplied = true, true
	if err := unpackStream(l, v, h, limits); err != nil {
		return err
	}
	if sum := fmt.Sprintf("sha256:%x", h.Sum(nil)); sum != diffID.String() {
		return fmt.Errorf("digest mismatch: unpacked it is %s, and the config says %s", sum, diffID)
	}
	return nil
}

// parseManifest reads an image manifest of either kind.
func parseManifest(data []byte) (*v1.Manifest, error) {
	m := new(v1.Manifest)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}
