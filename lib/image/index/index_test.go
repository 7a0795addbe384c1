package index_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/fetch"
	"github.com/rkt-toolkit/rkt/lib/image/index"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// newStore has an image with a name.
func newStore(t *testing.T) (dir string, s *store.Store, id string, ref image.Reference) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range [][2]string{
		{"manifest", `{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/app"}`},
		{"rootfs/file", "content"},
	} {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	file := filepath.Join(dir, "app.aci")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(filepath.Join(dir, "rkt"))
	if err != nil {
		t.Fatal(err)
	}
	if ref, err = image.ParseReference(file); err != nil {
		t.Fatal(err)
	}
	if id, err = fetch.Fetch(t.Context(), s, ref, fetch.Options{PullPolicy: fetch.New,
		InsecureImage: true}); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "rkt", "cas"), s, id, ref
}

// rebuild returns how many images and names came back.
func rebuild(t *testing.T, s *store.Store) (images, names int, err error) {
	t.Helper()
	err = index.Rebuild(t.Context(), s, func(store.Ref) { images++ }, func(store.Ref) { names++ })
	return images, names, err
}

// A store that has lost its index, a part of it, or has it damaged, gets back what it had.
func TestRebuild(t *testing.T) {
	for _, c := range []struct {
		name          string
		damage        func(cas, id string) error
		images, names int // that come back; a name whose image was damaged only was never lost
	}{
		{"nothing", func(string, string) error { return nil }, 0, 0},
		{"the names", func(cas, _ string) error { return os.RemoveAll(cas + "/ref") }, 0, 1},
		{"the images", func(cas, _ string) error { return os.RemoveAll(cas + "/image") }, 1, 0},
		{"all", func(cas, _ string) error {
			if err := os.RemoveAll(cas + "/ref"); err != nil {
				return err
			}
			return os.RemoveAll(cas + "/image")
		}, 1, 1},
		{"a manifest", func(cas, id string) error {
			return os.WriteFile(cas+"/image/"+id+"/manifest", []byte("{"), 0o600)
		}, 1, 0},
		{"the list of layers", func(cas, id string) error {
			return os.WriteFile(cas+"/image/"+id+"/layers", nil, 0o600)
		}, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cas, s, id, ref := newStore(t)
			if err := c.damage(cas, id); err != nil {
				t.Fatal(err)
			}
			images, names, err := rebuild(t, s)
			if err != nil || images != c.images || names != c.names {
				t.Errorf("%d images and %d names came back, %v; want %d and %d", images, names, err, c.images, c.names)
			}
			found, err := s.Lookup(ref)
			if err != nil || found != id {
				t.Errorf("the name is %q, %v", found, err)
			}
			img, err := s.Image(id)
			if err == nil {
				err = s.Check(img)
			}
			if err != nil {
				t.Error(err)
			}
			if images, names, err := rebuild(t, s); images+names != 0 || err != nil {
				t.Errorf("a second time: %d, %d, %v", images, names, err)
			}
		})
	}
}

// Nothing gets into the index whose files are not what the ID says.
func TestRebuildCompares(t *testing.T) {
	cas, s, id, _ := newStore(t)
	if err := os.RemoveAll(cas + "/image"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.LayerPath(id), "file"), []byte("CONTENT"), 0o644); err != nil {
		t.Fatal(err)
	}
	images, _, err := rebuild(t, s)
	if images != 0 || !testkit.Says(err, "damaged") ||
		!strings.Contains(err.Error(), "other content") {
		t.Errorf("%d images, %v", images, err)
	}
	if _, err := s.Image(id); err == nil {
		t.Error("the image is in the index")
	}
}

// What neither config nor layer is left of is an error that says what to do.
func TestRebuildLost(t *testing.T) {
	cas, s, _, _ := newStore(t)
	for _, lost := range []string{"image", "layer"} {
		if err := os.RemoveAll(filepath.Join(cas, lost)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(cas, "layer"), 0o700); err != nil {
		t.Fatal(err)
	}
	if images, _, err := rebuild(t, s); images != 0 || !testkit.Says(err, "fetch it again") {
		t.Errorf("%d images, %v", images, err)
	}
}
