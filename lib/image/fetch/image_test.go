package fetch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/store"
)

type object = map[string]any

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func digest(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// tarOf makes an archive of entries "NAME", "NAME=TEXT", "NAME/" and "NAME->TARGET".
func tarOf(t testing.TB, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		name, text, _ := strings.Cut(e, "=")
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o755}
		if link, target, ok := strings.Cut(e, "->"); ok {
			h = &tar.Header{Typeflag: tar.TypeSymlink, Name: link, Linkname: target}
			text = ""
		} else if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		must(t, w.WriteHeader(h))
		_, err := w.Write([]byte(text))
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func zstded(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	must(t, err)
	return w.EncodeAll(data, nil)
}

// layout is an OCI image layout in a directory that tests make wrong in all ways.
type layout struct {
	t   testing.TB
	dir string
}

func newLayout(t testing.TB) layout {
	t.Helper()
	l := layout{t, filepath.Join(t.TempDir(), "app")}
	must(t, os.MkdirAll(l.dir+"/blobs/sha256", 0o755))
	must(t, os.WriteFile(l.dir+"/oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
	return l
}

func (l layout) path(digest string) string {
	return filepath.Join(l.dir, "blobs/sha256", strings.TrimPrefix(digest, "sha256:"))
}

func (l layout) blob(mediaType string, data []byte) object {
	l.t.Helper()
	must(l.t, os.WriteFile(l.path(digest(data)), data, 0o644))
	return object{"mediaType": mediaType, "digest": digest(data), "size": len(data)}
}

func (l layout) json(mediaType string, v any) object {
	l.t.Helper()
	data, err := json.Marshal(v)
	must(l.t, err)
	return l.blob(mediaType, data)
}

const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// layer is a layer as it is in a layout, and what it says it is.
type layer struct {
	compressed []byte
	diffID     string
}

func gzipLayer(t testing.TB, entries ...string) layer {
	data := tarOf(t, entries...)
	return layer{gzipped(t, data), digest(data)}
}

// config is an image's config with those diff IDs.
func config(layers ...layer) object {
	diffIDs := []string{}
	for _, l := range layers {
		diffIDs = append(diffIDs, l.diffID)
	}
	return object{"os": "linux", "architecture": runtime.GOARCH, "config": object{"Cmd": []string{"/bin/app"}},
		"rootfs": object{"type": "layers", "diff_ids": diffIDs}}
}

func (l layout) manifest(config object, layers ...layer) object {
	l.t.Helper()
	descriptors := []object{}
	for _, layer := range layers {
		descriptors = append(descriptors, l.blob(typeLayer, layer.compressed))
	}
	return object{"schemaVersion": 2, "mediaType": typeManifest, "config": l.json(typeConfig, config),
		"layers": descriptors}
}

// index writes index.json.
func (l layout) index(descriptors ...object) {
	l.t.Helper()
	data, err := json.Marshal(object{"schemaVersion": 2, "mediaType": typeIndex, "manifests": descriptors})
	must(l.t, err)
	must(l.t, os.WriteFile(l.dir+"/index.json", data, 0o644))
}

// image makes the layout hold one image of these layers.
func (l layout) image(layers ...layer) {
	l.t.Helper()
	l.index(l.json(typeManifest, l.manifest(config(layers...), layers...)))
}

func newStore(t testing.TB) (*store.Store, string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("the store needs root")
	}
	dir := t.TempDir()
	s, err := store.Open(dir)
	must(t, err)
	return s, dir
}

func reference(t testing.TB, name string) image.Reference {
	t.Helper()
	ref, err := image.ParseReference(name)
	must(t, err)
	return ref
}

// wantNothing fails if anything of an image is in the store, or anything half-made.
func wantNothing(t testing.TB, dir string) {
	t.Helper()
	for _, sub := range []string{"image", "layer", "tmp", "ref", "partial", "remote"} {
		err := filepath.WalkDir(filepath.Join(dir, "cas", sub), func(path string, d fs.DirEntry, err error) error {
			if err == nil && path != filepath.Join(dir, "cas", sub) {
				err = fmt.Errorf("left over: %s", path)
			}
			return err
		})
		if err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
}

// registry serves a layout under /v2/app/, tag "latest" being its first image, and counts what is
// asked of it.
type registry struct {
	dir      string
	override func(w http.ResponseWriter, r *http.Request) bool // true: it has answered

	mu    sync.Mutex
	asked map[string]int
}

func (g *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	if g.asked == nil {
		g.asked = map[string]int{}
	}
	g.asked[r.URL.Path]++
	if r.Method != http.MethodGet {
		g.asked[r.Method+" "+r.URL.Path]++
	}
	g.mu.Unlock()
	if g.override != nil && g.override(w, r) {
		return
	}
	kind, name := path.Split(strings.TrimPrefix(r.URL.Path, "/v2/app/"))
	switch {
	case r.URL.Path == "/v2/":
	case kind == "manifests/":
		if name == "latest" {
			data, err := os.ReadFile(filepath.Join(g.dir, "index.json"))
			var index struct{ Manifests []struct{ Digest string } }
			if err != nil || json.Unmarshal(data, &index) != nil {
				http.Error(w, "no index", http.StatusInternalServerError)
				return
			}
			name = index.Manifests[0].Digest
		}
		data, err := os.ReadFile(filepath.Join(g.dir, "blobs/sha256", strings.TrimPrefix(name, "sha256:")))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		var typed struct{ MediaType string }
		_ = json.Unmarshal(data, &typed)
		w.Header().Set("Content-Type", typed.MediaType)
		w.Header().Set("Docker-Content-Digest", digest(data))
		_, _ = w.Write(data)
	case kind == "blobs/":
		http.ServeFile(w, r, filepath.Join(g.dir, "blobs/sha256", strings.TrimPrefix(name, "sha256:")))
	default:
		http.NotFound(w, r)
	}
}

func (g *registry) count(path string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked[path]
}
