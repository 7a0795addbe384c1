package store

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func open(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "rkt"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func layerName(n int) string { return fmt.Sprintf("sha256-%064x", n) }
func imageID(n int) string   { return fmt.Sprintf("sha512-%0128x", n) }

func blank(name string) *schema.ImageManifest {
	m := schema.BlankImageManifest()
	if err := m.Name.Set(name); err != nil {
		panic(err)
	}
	return m
}

func addLayer(t testing.TB, s *Store, n int) string {
	t.Helper()
	err := s.AddLayer(t.Context(), layerName(n), func(l *Layer) error {
		return os.WriteFile(filepath.Join(l.Root.Name(), "file"), nil, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return layerName(n)
}

func addImage(t testing.TB, s *Store, n int, layers ...string) string {
	t.Helper()
	if err := s.AddImage(t.Context(), imageID(n), blank("example.com/app"), layers, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	return imageID(n)
}

func wantEmptyTmp(t *testing.T, s *Store) {
	t.Helper()
	entries, err := os.ReadDir(s.path("tmp"))
	if err != nil || len(entries) > 0 {
		t.Errorf("left over: %v %v", entries, err)
	}
}

func TestEmptyStore(t *testing.T) {
	s := open(t)
	if ids, err := s.Images(); len(ids) != 0 || err != nil {
		t.Errorf("%v %v", ids, err)
	}
	if refs, err := s.Refs(); len(refs) != 0 || err != nil {
		t.Errorf("%v %v", refs, err)
	}
	ref, _ := image.ParseReference("docker://x")
	if _, err := s.Lookup(ref); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	for _, id := range []string{"sha512-ab", imageID(1)} {
		if _, err := s.Image(id); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
	if err := s.Clean(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.cas); err == nil {
		t.Error("reading made a store")
	}
}

func TestAddAndRead(t *testing.T) {
	s := open(t)
	one, two := addLayer(t, s, 1), addLayer(t, s, 2)
	id := addImage(t, s, 7, one, two, one)
	img, err := s.Image(id[:20])
	if err != nil {
		t.Fatal(err)
	}
	if img.ID != id || img.Manifest.Name != "example.com/app" {
		t.Errorf("%+v", img)
	}
	if want := []string{s.LayerPath(two), s.LayerPath(one)}; !slices.Equal(img.Layers, want) {
		t.Errorf("layers %v, want %v", img.Layers, want)
	}
	if text, err := os.ReadFile(img.Config); string(text) != "{}" || err != nil {
		t.Errorf("config %q %v", text, err)
	}
	for _, name := range []string{"docker://x", "docker://h.x:1/x", "app.aci", "oci:/a:b", "https://h/p", "a.b/c:1",
		"a.b/c/d:1"} {
		ref, err := image.ParseReference(name)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.SetRef(t.Context(), ref, id); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := s.Lookup(ref); got != id || err != nil {
			t.Errorf("%s: %s %v", name, got, err)
		}
	}
	refs, err := s.Refs()
	if err != nil || len(refs) != 7 || refs[0] != (Ref{"appc/a.b/c/d:1", id}) {
		t.Errorf("%v %v", refs, err)
	}
	for dir, mode := range map[string]os.FileMode{"": 0o700, "layer": 0o700, "layer/" + one + "/root": 0o755} {
		if info, err := os.Stat(s.path(dir)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", dir, info.Mode(), err)
		}
	}
	wantEmptyTmp(t, s)
	if again, err := Open(filepath.Dir(s.cas)); err != nil {
		t.Error(err)
	} else if _, err := again.Image(id); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	s := open(t)
	layer := addLayer(t, s, 1)
	addImage(t, s, 0x10, layer)
	addImage(t, s, 0x11, layer)
	damage := func(n int, file, text string) string {
		id := addImage(t, s, n, layer)
		if err := os.WriteFile(s.path("image", id, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return id
	}
	for _, c := range []struct{ id, want string }{
		{"sha512-00", "ambiguous image ID"},
		{"sha512-ff", "not in the store"},
		{"sha512-", `"sha512-" is not an image ID`},
		{"../../etc", `"../../etc" is not an image ID`},
		{"docker://x", `"docker://x" is not an image ID`},
		{damage(0x20, "manifest", "{"), "damaged: "},
		{damage(0x21, "layers", "../../../etc\n"), "damaged: "},
		{damage(0x22, "layers", layerName(9)+"\n"), "incomplete: layer " + layerName(9) +
			" is missing; fetch"},
	} {
		if _, err := s.Image(c.id); !testkit.Says(err, c.want) {
			t.Errorf("%s: %v", c.id, err)
		}
	}
	if err := s.AddImage(t.Context(), imageID(5), blank("x"), []string{layerName(5)}, nil); err == nil {
		t.Error("an image without its layer was added")
	}
	if err := s.AddLayer(t.Context(), "../x", nil); err == nil {
		t.Error("a layer with a bad name was added")
	}
	addImage(t, s, 0x20, layer) // puts a damaged one right
	if _, err := s.Image(imageID(0x20)); err != nil {
		t.Error(err)
	}
	wantEmptyTmp(t, s)
	if err := os.WriteFile(s.path("version"), []byte("3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Dir(s.cas)); !testkit.Says(err,
		`format "3", and this program knows only "2"; move the directory away`) {
		t.Error(err)
	}
}

func TestFailedLayerLeavesNothing(t *testing.T) {
	s := open(t)
	cause := errors.New("cause")
	err := s.AddLayer(t.Context(), layerName(1), func(l *Layer) error {
		return errors.Join(os.MkdirAll(l.Root.Name()+"/a/b", 0), cause)
	})
	if !errors.Is(err, cause) || s.HasLayer(layerName(1)) {
		t.Error(err)
	}
	wantEmptyTmp(t, s)
}

func TestManyMakersOneLayer(t *testing.T) {
	s := open(t)
	var filled atomic.Int32
	var wg sync.WaitGroup
	failed := errors.New("the first one fails")
	for range 8 {
		wg.Go(func() {
			err := s.AddLayer(t.Context(), layerName(1), func(l *Layer) error {
				if filled.Add(1) == 1 {
					time.Sleep(50 * time.Millisecond)
					return failed
				}
				time.Sleep(50 * time.Millisecond)
				return nil
			})
			if err != nil && !errors.Is(err, failed) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if filled.Load() != 2 || !s.HasLayer(layerName(1)) {
		t.Errorf("made %d times", filled.Load())
	}
	wantEmptyTmp(t, s)
}

func TestManyMakersOneImage(t *testing.T) {
	s := open(t)
	layer := addLayer(t, s, 1)
	ref, _ := image.ParseReference("docker://x")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := s.AddImage(t.Context(), imageID(1), blank("x"), []string{layer}, nil); err != nil {
				t.Error(err)
			}
			if err := s.SetRef(t.Context(), ref, imageID(1)); err != nil {
				t.Error(err)
			}
			if err := s.Clean(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := s.Image(imageID(1)); err != nil {
		t.Error(err)
	}
	wantEmptyTmp(t, s)
}

func TestLeftovers(t *testing.T) {
	s := open(t)
	addLayer(t, s, 9)
	left := s.path("tmp", "layer-"+layerName(1))
	if err := os.MkdirAll(left+"/root/deep/deeper", 0o700); err != nil {
		t.Fatal(err)
	}
	addLayer(t, s, 1) // takes over
	if entries, _ := os.ReadDir(s.LayerPath(layerName(1))); len(entries) != 1 {
		t.Errorf("%v", entries)
	}
	wantEmptyTmp(t, s)

	other := s.path("tmp", "layer-held")
	for _, dir := range []string{left, other} {
		if err := os.MkdirAll(dir+"/root", 0o700); err != nil {
			t.Fatal(err)
		}
	}
	held, err := durable.Lock(other, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := s.Clean(); err != nil {
		t.Error(err)
	}
	entries, _ := os.ReadDir(s.path("tmp"))
	if len(entries) != 1 || entries[0].Name() != "layer-held" {
		t.Errorf("left: %v", entries)
	}
}

func TestWaitingIsInterruptible(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	err := s.AddLayer(t.Context(), layerName(1), func(*Layer) error {
		return s.AddLayer(ctx, layerName(1), func(*Layer) error { return nil })
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	wantEmptyTmp(t, s)
}

func TestNewLayer(t *testing.T) {
	s := open(t)
	name := fmt.Sprintf("sha512-%x", sha512.Sum512(nil))
	for range 2 {
		l, err := s.NewLayer(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(l.Root.Name()+"/etc", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := l.Commit(name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(s.LayerPath(name) + "/etc"); err != nil {
		t.Error(err)
	}
	wantEmptyTmp(t, s)
}

// BenchmarkLookup is what rkt-prepare pays for finding an image among a thousand.
func BenchmarkLookup(b *testing.B) {
	s := open(b)
	layer := addLayer(b, s, 1)
	ref, _ := image.ParseReference("docker://x")
	for n := range 1000 {
		addImage(b, s, n, layer)
	}
	if err := s.SetRef(b.Context(), ref, imageID(1)); err != nil {
		b.Fatal(err)
	}
	b.Run("reference", func(b *testing.B) {
		for b.Loop() {
			id, err := s.Lookup(ref)
			if err == nil {
				_, err = s.Image(id)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("prefix", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Image(imageID(999)[:130]); err == nil {
				b.Fatal("ambiguous")
			}
		}
	})
}

// An image that was read is there still, until it or a layer of it is removed.
func TestStill(t *testing.T) {
	s := open(t)
	id := addImage(t, s, 1, addLayer(t, s, 1))
	img, err := s.Image(id)
	if err == nil {
		err = s.Still(img)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.path("layer", layerName(1)), s.path("layer", "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := s.Still(img); !testkit.Says(err, "layer "+layerName(1)+" is missing") {
		t.Errorf("without its layer: %v", err)
	}
	if err := os.RemoveAll(s.path("image", id)); err != nil {
		t.Fatal(err)
	}
	if err := s.Still(img); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed: %v", err)
	}
}
