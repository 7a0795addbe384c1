package resolve

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
	"github.com/rkt-toolkit/rkt/lib/image/store"
)

func idOf(text string) string { return fmt.Sprintf("sha512-%x", sha512.Sum512([]byte(text))) }

// bench is a store with images of one word each, which is its whole content, and a keystore that is
// a list of words.
type bench struct {
	*testing.T
	store   *store.Store
	trusted string
	Resolver
}

func newBench(t *testing.T) *bench {
	s, err := store.Open(t.TempDir())
	must(t, err)
	b := &bench{T: t, store: s, trusted: "key"}
	b.Resolver = Resolver{s, func(p keystore.Proof) error {
		if !strings.Contains(b.trusted, p.Key) {
			return errors.New("key " + p.Key + " is not trusted")
		}
		return nil
	}}
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ref(t *testing.T, name string) image.Reference {
	t.Helper()
	r, err := image.ParseReference(name)
	must(t, err)
	return r
}

// add adds an image, called NAME:VERSION in its manifest, that lies on others, given by their
// words, which it names by IDs if they begin with "=". Docker images have a config.
func (b *bench) add(word, name string, docker bool, below ...string) string {
	b.Helper()
	id := idOf(word)
	own, version, _ := strings.Cut(name, ":")
	m := schema.BlankImageManifest()
	m.Name = *types.MustACIdentifier(own)
	m.Labels = types.Labels{{Name: "version", Value: version}}
	var layers []string
	for _, w := range below {
		w, pinned := strings.CutPrefix(w, "=")
		d := types.Dependency{ImageName: *types.MustACIdentifier("example.com/" + w)}
		if pinned {
			hash, err := types.NewHash(idOf(w))
			must(b.T, err)
			d.ImageID = hash
		}
		m.Dependencies = append(m.Dependencies, d)
		layers = append(layers, idOf(w))
	}
	must(b.T, b.store.AddLayer(b.Context(), id, func(*store.Layer) error { return nil }))
	var config []byte
	if docker {
		config = []byte(word)
	}
	must(b.T, b.store.AddImage(b.Context(), id, m, append(layers, id), config))
	return id
}

func (b *bench) sign(word, as, key string, below ...string) {
	b.Helper()
	sig := store.Signature{Proof: keystore.Proof{Name: as, Key: key}, Below: map[string]keystore.Proof{}}
	for _, w := range below {
		w, pinned := strings.CutPrefix(w, "=")
		if sig.Below[idOf(w)] = (keystore.Proof{}); !pinned {
			sig.Below[idOf(w)] = keystore.Proof{Name: w, Key: "key"}
		}
	}
	must(b.T, b.store.SetSignature(idOf(word), ref(b.T, as), sig))
}

func (b *bench) name(name, word string) {
	b.Helper()
	must(b.T, b.store.SetRef(b.Context(), ref(b.T, name), idOf(word)))
}

// want is a word, or a part of an error.
func (b *bench) want(name, want string) {
	b.Helper()
	img, err := b.Lookup(ref(b.T, name))
	switch {
	case err != nil && (want == "" || !strings.Contains(err.Error(), want)):
		b.Errorf("%s: %v, want %q", name, err, want)
	case err == nil && img.ID != idOf(want):
		b.Errorf("%s: is %s, want %q", name, img.ID[:20], want)
	}
}

const unchecked = "in the store, but not verified: no signature of it was checked"

func TestNames(t *testing.T) {
	b := newBench(t)
	b.want("docker://a.example/x", "not in the store")
	b.add("one", "a.example/x:latest", true)
	b.name("docker://a.example/x", "one")
	for _, name := range []string{"docker://a.example/x", "a.example/x:latest"} {
		b.want(name, unchecked)
	}
	b.want(idOf("one"), "one")
	b.sign("one", "docker://a.example/x", "key")
	for _, name := range []string{"docker://a.example/x", "a.example/x:latest", idOf("one")[:20]} {
		b.want(name, "one")
	}
	b.want("docker://a.example/x:2", "not in the store")
	b.name("docker://a.example/x:2", "one") // verified for the other tag
	b.want("docker://a.example/x:2", unchecked)
	b.name("docker://a.example/y", "one")
	b.want("docker://a.example/y", unchecked)
	b.name("oci:/layout", "one")
	b.want("oci:/layout", unchecked)

	// One that comes later has the name only if it was verified too.
	b.add("two", "a.example/x:latest", true)
	b.name("docker://a.example/x", "two")
	b.want("docker://a.example/x", "one")
	b.add("three", "a.example/x:latest", true) // and another
	b.name("docker://a.example/x", "three")
	b.want("docker://a.example/x", "one")
	b.sign("two", "docker://a.example/x", "other")
	b.want("docker://a.example/x", "one")
	b.trusted = "key other"
	b.name("docker://a.example/x", "two")
	b.want("docker://a.example/x", "two")
	b.trusted = "key" // once two had it verified, it is not one's any more
	b.want("docker://a.example/x", "key other is not trusted")
	b.trusted = ""
	b.want("docker://a.example/x", "not verified: key other is not trusted")
	b.want(idOf("one"), "one")
	b.Good = nil
	b.want("docker://a.example/x", "two")
}

// An ACI's name is in it, so it was verified for that whatever it was asked for by.
func TestACINames(t *testing.T) {
	b := newBench(t)
	b.add("one", "example.com/a:1", false)
	b.name("/one.aci", "one")
	b.want("/one.aci", unchecked)
	b.sign("one", "example.com/a", "key")
	b.want("/one.aci", "one")
	b.want("example.com/a:1", "one")
	b.want("example.com/a:2", "not in the store")
	b.want("example.com/a", "one") // without a version it is any
	b.add("two", "example.com/a:1", false)
	b.want("example.com/a:1", "one")
	b.name("example.com/a:1", "two")
	b.want("example.com/a:1", "one")
	b.name("example.com/a", "one")
	b.name("example.com/a", "two")
	b.want("example.com/a", "one")
	// A registry's image of that name is not it, and an ACI is not a registry's image.
	b.add("docker", "example.com/a:3", true)
	b.sign("docker", "docker://example.com/b:3", "key")
	b.want("example.com/a:3", unchecked)
	b.name("docker://example.com/a:1", "docker")
	b.want("docker://example.com/a:1", unchecked)
}

func TestDependencies(t *testing.T) {
	b := newBench(t)
	b.add("base", "example.com/base:1", false)
	b.add("evil", "example.com/base:1", false)
	b.add("pinned", "example.org/pinned:1", false)
	b.add("app", "example.com/app:1", false, "base", "=pinned")
	b.want(idOf("app"), "dependency example.com/base: no signature of it was checked")
	b.sign("app", "example.com/app", "key", "base", "=pinned")
	b.want("example.com/app:1", "app")
	b.want(idOf("app"), "app")
	b.add("app", "example.com/app:1", false, "evil", "=pinned")
	b.want("example.com/app:1", "not verified: dependency example.com/base: no signature of it was checked")
	b.want(idOf("app"), "dependency example.com/base")
	b.add("app", "example.com/app:1", false, "base", "=pinned")
	b.want("example.com/app:1", "app")
	b.trusted = ""
	b.want("example.com/app:1", "not verified: key key is not trusted")
	b.want(idOf("app"), "dependency example.com/base: key key is not trusted")
	b.trusted = "key"
	// Where all that it lies on is named by IDs, its own says it all, to any depth.
	b.add("middle", "example.org/middle:1", false, "=pinned")
	b.add("top", "example.org/top:1", false, "=pinned", "=middle")
	b.want(idOf("top"), "top")
	b.want("example.org/top:1", unchecked)
	b.add("hole", "example.org/hole:1", false, "base")
	b.add("over", "example.org/over:1", false, "base", "=hole")
	b.want(idOf("over"), "dependency example.com/base")
	// What another image means by a name is looked for likewise.
	if _, err := b.Own(ref(t, "example.com/base")); !errors.Is(err, ErrUnverified) {
		t.Error(err)
	}
	b.sign("base", "example.com/base", "key")
	if img, err := b.Own(ref(t, "example.com/base")); err != nil || img.ID != idOf("base") {
		t.Error(img, err)
	}
}

func TestVerified(t *testing.T) {
	b := newBench(t)
	b.add("one", "a.example/x:1", true)
	b.sign("one", "docker://a.example/x:1", "key")
	b.sign("one", "docker://a.example/y:1", "gone")
	img, err := b.store.Image(idOf("one"))
	must(t, err)
	if got := fmt.Sprint(b.Verified(img)); got != fmt.Sprint([]keystore.Proof{{Name: "docker://a.example/x:1",
		Key: "key"}}) {
		t.Error(got)
	}
}
