package store

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
)

func ref(t testing.TB, name string) image.Reference {
	t.Helper()
	r, err := image.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRemote(t *testing.T) {
	s := open(t)
	url, file := ref(t, "https://h.x/a.aci"), ref(t, "/srv/a.aci")
	if _, err := s.Remote(url); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	want := Remote{ID: imageID(1), Manifest: blank("example.com/a"), ETag: `"x"`, Expires: time.Unix(1e9, 0).UTC(),
		Proof: &keystore.Proof{Name: "example.com/a", Key: "k"}}
	for range 2 {
		if err := s.SetRemote(t.Context(), url, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Remote(url)
	if err != nil || got.ID != want.ID || got.ETag != want.ETag || !got.Expires.Equal(want.Expires) ||
		*got.Proof != *want.Proof || got.Manifest.Name != "example.com/a" {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := s.Remote(file); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	for _, text := range []string{"", "{", `{"id":"sha512-00"}`, `{"id":"` + imageID(1) + `"}`,
		`{"id":"../x","manifest":{}}`} {
		if err := os.WriteFile(s.remote(url), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Remote(url); err == nil || !strings.HasPrefix(err.Error(), "damaged: ") {
			t.Errorf("%q: %v", text, err)
		}
	}
	wantEmptyTmp(t, s)
}

// TestFind looks images up by what their manifests say.
func TestFind(t *testing.T) {
	s := open(t)
	layer := addLayer(t, s, 1)
	add := func(n int, name, version, channel string, age time.Duration) {
		m := blank(name)
		m.Labels = types.Labels{{Name: "version", Value: version}, {Name: "channel", Value: channel}}
		if err := s.AddImage(t.Context(), imageID(n), m, []string{layer}, nil); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(s.path("image", imageID(n), "manifest"), when, when); err != nil {
			t.Fatal(err)
		}
	}
	add(1, "example.com/a", "1", "old", 3*time.Hour)
	add(2, "example.com/a", "1", "new", 2*time.Hour)
	add(3, "example.com/a", "2", "new", time.Hour)
	add(4, "example.com/ab", "1", "new", 0)
	for name, want := range map[string]string{
		"example.com/a:1":                imageID(2), // the newest
		"example.com/a:1,channel=old":    imageID(1),
		"example.com/a:2":                imageID(3),
		"example.com/a:3":                "",
		"example.com/a:1,channel=x":      "",
		"example.com/b:1":                "",
		"example.com/a":                  "", // whatever its newest version is, discovery tells
		"example.com/ab,channel=new":     "",
		"example.com/ab,version=1":       imageID(4),
		"example.com/a:1,os=linux":       "",
		"example.com/ab:1,channel=new":   imageID(4),
		"example.com/ab:1,channel=newer": "",
	} {
		got, err := s.Lookup(ref(t, name))
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %s %v", name, got, err)
		}
	}
	if got, err := s.Find(ref(t, "example.com/a")); got != imageID(3) || err != nil {
		t.Errorf("any version: %s %v", got, err)
	}
	if err := os.RemoveAll(s.LayerPath(layer)); err != nil { // no image is whole any more
		t.Fatal(err)
	}
	if _, err := s.Find(ref(t, "example.com/a")); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// TestLayersChange has an image get other layers, what it depends on having changed, and keep them
// when they are the same.
func TestLayersChange(t *testing.T) {
	s := open(t)
	one, two := addLayer(t, s, 1), addLayer(t, s, 2)
	addImage(t, s, 1, one)
	for _, layers := range [][]string{{one}, {two, one}, {two, one}, {one}} {
		addImage(t, s, 1, layers...)
		img, err := s.Image(imageID(1))
		if err != nil || len(img.Layers) != len(layers) || img.Layers[0] != s.LayerPath(layers[0]) {
			t.Errorf("%v: %+v %v", layers, img, err)
		}
	}
	wantEmptyTmp(t, s)
}

func TestPartial(t *testing.T) {
	s := open(t)
	url := ref(t, "https://h.x/a.aci")
	begin := func(wantSize int64, wantValidator string) *Partial {
		t.Helper()
		p, err := s.Partial(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if p.Size != wantSize || p.Validator != wantValidator {
			t.Errorf("%d bytes of %q, want %d of %q", p.Size, p.Validator, wantSize, wantValidator)
		}
		return p
	}
	write := func(p *Partial, text string) {
		t.Helper()
		if _, err := io.WriteString(p.File, text); err != nil {
			t.Fatal(err)
		}
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p := begin(0, "")
	check(p.Restart(`"1"`))
	write(p, "one")

	// Nobody else gets it meanwhile, and nothing takes it away.
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	if _, err := s.Partial(ctx, url); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if other, err := s.Partial(t.Context(), ref(t, "https://h.x/b.aci")); err != nil {
		t.Error(err)
	} else {
		check(other.Drop())
	}
	old := time.Now().Add(-2 * partialAge)
	check(os.Chtimes(p.draft.path, old, old))
	check(s.Clean())
	check(p.Keep())

	p = begin(3, `"1"`)
	write(p, "two")
	check(p.Keep())
	p = begin(6, `"1"`)
	text, err := os.ReadFile(filepath.Join(p.draft.path, "data"))
	if string(text) != "onetwo" || err != nil {
		t.Errorf("%q %v", text, err)
	}
	check(p.Restart(`"2"`)) // it has changed
	write(p, "new")
	check(p.Keep())
	p = begin(3, `"2"`)
	check(p.Restart("")) // nothing tells what it is of, so nobody can go on with it
	write(p, "x")
	check(p.Keep())
	p = begin(0, "")
	check(p.Restart(`"3"`))
	write(p, "x")
	path := p.draft.path
	check(os.WriteFile(filepath.Join(path, "validator"), []byte("another boot\n\"3\""), 0o600))
	check(p.Keep())
	check(begin(0, "").Drop())
	if _, err := os.Stat(path); err == nil {
		t.Error("it is there after it was dropped")
	}

	// What is left a day later is rubbish.
	p = begin(0, "")
	check(p.Restart(`"1"`))
	check(p.Keep())
	check(s.Clean())
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	check(os.Chtimes(path, old, old))
	check(s.Clean())
	if _, err := os.Stat(path); err == nil {
		t.Error("it is there after a day")
	}
	wantEmptyTmp(t, s)
}

func TestScratch(t *testing.T) {
	s := open(t)
	f, err := s.Scratch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := f.WriteAt([]byte("x"), 1<<20); n != 1 || err != nil {
		t.Error(err)
	}
	wantEmptyTmp(t, s) // it has no name
}
