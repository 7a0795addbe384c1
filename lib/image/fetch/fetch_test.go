package fetch

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/testkit"
	"golang.org/x/sys/unix"
)

var unsigned = Options{PullPolicy: Update, InsecureImage: true}

func TestLayout(t *testing.T) {
	s, dir := newStore(t)
	base := gzipLayer(t, "bin/", "bin/app=program", "etc/", "etc/old=x")
	data := tarOf(t, "etc/", "etc/.wh.old", "etc/new=y")
	second := layer{zstded(t, data), digest(data)}
	plain := tarOf(t, "var/")
	third := layer{plain, digest(plain)}
	l := newLayout(t)
	l.image(base, second, third, base)
	ref := reference(t, "oci:"+l.dir)
	id, err := Fetch(t.Context(), s, ref, unsigned)
	must(t, err)
	img, err := s.Image(id)
	must(t, err)
	configJSON, err := os.ReadFile(img.Config)
	must(t, err)
	if want := fmt.Sprintf("sha512-%x", sha512.Sum512(configJSON)); id != want {
		t.Errorf("ID %s, want %s", id, want)
	}
	var names []string
	for _, layer := range img.Layers {
		names = append(names, strings.Replace(store.LayerName(layer), "-", ":", 1))
	}
	if want := []string{second.diffID, third.diffID, base.diffID}; !slices.Equal(names, want) {
		t.Errorf("layers %v, want %v", names, want)
	}
	if text, err := os.ReadFile(img.Layers[2] + "/bin/app"); string(text) != "program" || err != nil {
		t.Errorf("%q %v", text, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(img.Layers[0]+"/etc/old", &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR ||
		st.Rdev != 0 {
		t.Errorf("whiteout: %o %v", st.Mode, err)
	}
	if got, err := s.Lookup(ref); got != id || err != nil {
		t.Errorf("%s %v", got, err)
	}

	// What is there is not read again: blobs may be gone.
	must(t, os.Remove(l.path(digest(base.compressed))))
	for _, policy := range []PullPolicy{Never, New, Update} {
		o := unsigned
		o.PullPolicy = policy
		if again, err := Fetch(t.Context(), s, ref, o); again != id || err != nil {
			t.Errorf("%s: %s %v", policy, again, err)
		}
	}
	if again, err := Fetch(t.Context(), s, reference(t, id[:20]), Options{}); again != id || err != nil {
		t.Errorf("by ID: %s %v", again, err)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "cas/tmp")); len(entries) != 0 {
		t.Errorf("left over: %v", entries)
	}
}

// TestIncomplete has a layer of a fetched image vanish: the next fetch brings it back, and only it.
func TestIncomplete(t *testing.T) {
	s, _ := newStore(t)
	one, two := gzipLayer(t, "one"), gzipLayer(t, "two")
	l := newLayout(t)
	l.image(one, two)
	g := &registry{dir: l.dir}
	server := httptest.NewServer(g)
	defer server.Close()
	ref := reference(t, "docker://"+server.Listener.Addr().String()+"/app")
	o := unsigned
	o.PullPolicy = New
	id, err := Fetch(t.Context(), s, ref, o)
	must(t, err)
	must(t, os.RemoveAll(s.LayerPath(strings.Replace(two.diffID, ":", "-", 1))))
	if _, err := s.Image(id); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("incomplete: %v", err)
	}
	if _, err := Fetch(t.Context(), s, ref, Options{PullPolicy: Never}); !testkit.Says(err, "incomplete: layer") {
		t.Error(err)
	}
	if again, err := Fetch(t.Context(), s, ref, o); again != id || err != nil {
		t.Errorf("%s %v", again, err)
	}
	if _, err := s.Image(id); err != nil {
		t.Error(err)
	}
	if a, b := g.count("/v2/app/blobs/"+digest(one.compressed)),
		g.count("/v2/app/blobs/"+digest(two.compressed)); a != 1 || b != 2 {
		t.Errorf("layers were asked for %d and %d times", a, b)
	}
}

// TestOpaqueRoot is a layer that hides all below it, which overlayfs cannot say of a root.
func TestOpaqueRoot(t *testing.T) {
	s, _ := newStore(t)
	l := newLayout(t)
	l.image(gzipLayer(t, "hidden"), gzipLayer(t, ".wh..wh..opq", "seen"), gzipLayer(t, "top"))
	id, err := Fetch(t.Context(), s, reference(t, "oci:"+l.dir), unsigned)
	must(t, err)
	img, err := s.Image(id)
	must(t, err)
	if len(img.Layers) != 2 {
		t.Errorf("%v", img.Layers)
	}
}

func TestBroken(t *testing.T) {
	good := gzipLayer(t, "file=text")
	big := gzipLayer(t, "noise="+rand.Text()+strings.Repeat(rand.Text(), 50_000))
	for _, c := range []struct {
		name string
		make func(l layout)
		want string
	}{
		{"no layout", func(l layout) {}, "OCI image layout: open "},
		{"index is no JSON", func(l layout) { must(t, os.WriteFile(l.dir+"/index.json", []byte("x"), 0o644)) },
			"index.json: invalid character"},
		{"index is a directory", func(l layout) { must(t, os.Mkdir(l.dir+"/index.json", 0o755)) },
			"not a regular file"},
		{"index is a fifo", func(l layout) { must(t, unix.Mkfifo(l.dir+"/index.json", 0o644)) }, "not a regular file"},
		{"index is empty", func(l layout) { l.index() }, "no image for linux/"},
		{"index is huge", func(l layout) { must(t, os.WriteFile(l.dir+"/index.json", make([]byte, 9<<20), 0o644)) },
			"index.json: larger than 8388608 bytes"},
		{"two images", func(l layout) {
			d := l.json(typeManifest, l.manifest(config(good), good))
			l.index(d, d)
		}, "one image ... :TAG ... no tags"},
		{"an index in itself", func(l layout) {
			d := l.json(typeIndex, object{"manifests": []object{}})
			for range 6 {
				d = l.json(typeIndex, object{"manifests": []object{d}})
			}
			l.index(d)
		}, "indexes without end"},
		{"other machine", func(l layout) {
			d := l.json(typeManifest, l.manifest(config(good), good))
			d["platform"] = object{"os": "linux", "architecture": "vax"}
			l.index(d)
		}, "no image for linux/"},
		{"config of another machine", func(l layout) {
			c := config(good)
			c["architecture"] = "vax"
			l.index(l.json(typeManifest, l.manifest(c, good)))
		}, "it is for linux/vax, and this machine is linux/"},
		{"manifest of another kind", func(l layout) { l.index(l.blob("text/plain", []byte("x"))) },
			`type "text/plain" is not an image`},
		{"not a file system", func(l layout) {
			m := l.manifest(config(good), good)
			m["config"].(object)["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
			l.index(l.json(typeManifest, m))
		}, "of a file system"},
		{"digest is a path", func(l layout) {
			l.index(object{"mediaType": typeManifest, "digest": "sha256:../../../index.json", "size": 10})
		}, "index.json: "},
		{"negative size", func(l layout) {
			d := l.json(typeManifest, l.manifest(config(good), good))
			d["size"] = -1
			l.index(d)
		}, "a size of -1 bytes"},
		{"manifest is changed", func(l layout) {
			d := l.json(typeManifest, l.manifest(config(good), good))
			must(t, os.WriteFile(l.path(d["digest"].(string)), make([]byte, d["size"].(int)), 0o644))
			l.index(d)
		}, "digest mismatch: got sha256:"},
		{"config is changed", func(l layout) {
			m := l.manifest(config(good), good)
			d := m["config"].(object)
			must(t, os.WriteFile(l.path(d["digest"].(string)), make([]byte, d["size"].(int)), 0o644))
			l.index(l.json(typeManifest, m))
		}, "digest mismatch: got sha256:"},
		{"config is huge", func(l layout) {
			m := l.manifest(config(good), good)
			m["config"].(object)["size"] = 1 << 40
			l.index(l.json(typeManifest, m))
		}, "larger than 8388608 bytes"},
		{"config is no JSON", func(l layout) {
			m := l.manifest(config(good), good)
			m["config"] = l.blob(typeConfig, []byte("x"))
			l.index(l.json(typeManifest, m))
		}, "invalid character"},
		{"diff ID too many", func(l layout) { l.index(l.json(typeManifest, l.manifest(config(good, good), good))) },
			"manifest and config disagree: 1 layers, 2 diff IDs"},
		{"diff ID of another layer", func(l layout) {
			l.image(layer{good.compressed, digest(nil)})
		}, "digest mismatch: ... sha256:"},
		{"layer is missing", func(l layout) {
			l.image(good)
			must(t, os.Remove(l.path(digest(good.compressed))))
		}, "no such file or directory"},
		{"layer is changed", func(l layout) {
			l.image(big)
			data := bytes.Clone(big.compressed)
			data[len(data)/2] ^= 0xff
			must(t, os.WriteFile(l.path(digest(big.compressed)), data, 0o644))
		}, "layer " + digest(big.compressed) + ": digest mismatch: got sha256:"},
		{"layer is changed where gzip does not look", func(l layout) {
			l.image(good)
			data := bytes.Clone(good.compressed)
			data[4] ^= 0xff // the time in the header
			must(t, os.WriteFile(l.path(digest(good.compressed)), data, 0o644))
		}, "digest mismatch: got sha256:"},
		{"layer is truncated", func(l layout) {
			l.image(big)
			must(t, os.Truncate(l.path(digest(big.compressed)), int64(len(big.compressed)/2)))
		}, fmt.Sprintf("layer %s: truncated: %d of %d bytes", digest(big.compressed), len(big.compressed)/2,
			len(big.compressed))},
		{"layer is empty", func(l layout) {
			l.image(good)
			must(t, os.Truncate(l.path(digest(good.compressed)), 0))
		}, "truncated: 0 of "},
		{"layer goes on", func(l layout) {
			l.image(good)
			data := append(bytes.Clone(good.compressed), make([]byte, 1<<20)...)
			must(t, os.WriteFile(l.path(digest(good.compressed)), data, 0o644))
		}, fmt.Sprintf("longer than its %d bytes", len(good.compressed))},
		{"layer is a fifo", func(l layout) {
			l.image(good)
			must(t, os.Remove(l.path(digest(good.compressed))))
			must(t, unix.Mkfifo(l.path(digest(good.compressed)), 0o644))
		}, "not a regular file"},
		{"layer is no archive", func(l layout) {
			noise := []byte(strings.Repeat("noise", 1000))
			l.image(layer{gzipped(t, noise), digest(noise)})
		}, "bad archive: archive/tar: invalid tar header"},
		{"layer is the beginning of xz", func(l layout) {
			l.image(layer{[]byte("\xfd7zXZ\x00\x00"), digest(nil)})
		}, "bad archive: xz: "},
		{"layer is xz that wants 4 GiB of memory", func(l layout) {
			l.image(layer{greedyXZ(t), digest(nil)})
		}, "bad archive: xz: LZMA2 dictionary size exceeds max"},
		{"name with dot-dot", func(l layout) { l.image(gzipLayer(t, "../evil=x")) }, `entry "../evil": .. in the name`},
		{"one layer of many", func(l layout) {
			l.image(good, big, gzipLayer(t, "a"), gzipLayer(t, "b"), gzipLayer(t, "../c"), gzipLayer(t, "d"))
		}, ".. in the name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, dir := newStore(t)
			l := newLayout(t)
			c.make(l)
			_, err := Fetch(t.Context(), s, reference(t, "oci:"+l.dir), unsigned)
			if !testkit.Says(err, c.want) {
				t.Errorf("%v\nwant %s", err, c.want)
			}
			if ids, err := s.Images(); len(ids) > 0 || err != nil {
				t.Errorf("images: %v %v", ids, err)
			}
			if c.name != "one layer of many" { // where whole layers stay
				wantNothing(t, dir)
			}
		})
	}
}

// TestBomb is a layer whose size says nothing of what it unpacks to.
func TestBomb(t *testing.T) {
	s, dir := newStore(t)
	l := newLayout(t)
	l.image(gzipLayer(t, "zeros="+strings.Repeat("\x00", 4<<20)))
	for _, o := range []Options{{MaxBytes: 4 << 20}, {MaxEntries: 1, MaxBytes: 1 << 20}} {
		o.PullPolicy, o.InsecureImage = Update, true
		if _, err := Fetch(t.Context(), s, reference(t, "oci:"+l.dir), o); !testkit.Says(err, "larger than") {
			t.Errorf("%+v: %v", o, err)
		}
		wantNothing(t, dir)
	}
	for _, c := range []struct{ size, max, want int64 }{
		{0, 64 << 30, 1 << 30},
		{10 << 20, 64 << 30, 1<<30 + 2000<<20}, // 10 GB of zeros in 10 MB
		{1 << 40, 64 << 30, 64 << 30},
		{64<<30/maxRatio - 1, 64 << 30, 64 << 30},
		{1 << 62, 1 << 62, 1 << 62},
		{100, 1 << 20, 1 << 20},
	} {
		if got := unpackLimits(Options{MaxBytes: c.max, AnyRatio: true}, c.size).MaxBytes; got != c.max {
			t.Errorf("any ratio: %d bytes, at most %d: limit %d", c.size, c.max, got)
		}
		if got := unpackLimits(Options{MaxBytes: c.max}, c.size).MaxBytes; got != c.want {
			t.Errorf("%d bytes, at most %d: limit %d, want %d", c.size, c.max, got, c.want)
		}
	}
}

func TestChoose(t *testing.T) {
	s, _ := newStore(t)
	l := newLayout(t)
	one, two := gzipLayer(t, "one"), gzipLayer(t, "two")
	first := l.json(typeManifest, l.manifest(config(one), one))
	second := l.json(typeManifest, l.manifest(config(two), two))
	ours, other := object{}, object{"platform": object{"os": "linux", "architecture": "vax"}}
	for k, v := range first {
		ours[k], other[k] = v, cmpOr(other[k], v)
	}
	ours["platform"] = object{"os": "linux", "architecture": config()["architecture"]}
	index := l.json(typeIndex, object{"mediaType": typeIndex, "manifests": []object{other, ours}})
	first["annotations"] = object{refName: "1"}
	second["annotations"] = object{refName: "2"}
	index["annotations"] = object{refName: "many"}
	l.index(first, second, index)
	ids := map[string]string{}
	for _, tag := range []string{"1", "2", "many"} {
		id, err := Fetch(t.Context(), s, reference(t, "oci:"+l.dir+":"+tag), unsigned)
		if err != nil {
			t.Fatalf("%s: %v", tag, err)
		}
		ids[tag] = id
	}
	if ids["1"] == ids["2"] || ids["1"] != ids["many"] {
		t.Errorf("%v", ids)
	}
	for tag, want := range map[string]string{"": "one image ... :TAG ... " +
		"1, 2, many)",
		":3": `no image of tag "3" in it (it has 1, 2, many)`} {
		if _, err := Fetch(t.Context(), s, reference(t, "oci:"+l.dir+tag), unsigned); !testkit.Says(err, want) {
			t.Errorf("%q: %v", tag, err)
		}
	}
}

func cmpOr(a, b any) any {
	if a != nil {
		return a
	}
	return b
}

func TestPolicy(t *testing.T) {
	s, dir := newStore(t)
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"docker://127.0.0.1:1/x", Options{PullPolicy: Never, InsecureImage: true},
			"not in the store ... never"},
		{"/no/such.aci", Options{PullPolicy: Never}, "not in the store ... never"},
		{"docker://127.0.0.1:1/x", Options{PullPolicy: New},
			`no key is trusted for 127.0.0.1:1/x: trust its signer's with "rkt trust --prefix=127.0.0.1:1/x ` +
				`FILE.pub", or use --insecure-options=image to run it unsigned`},
		{"/no/such.aci", Options{PullPolicy: New},
			"signatures cannot be verified ... --insecure-options=image"},
		{"oci:/no/such", Options{PullPolicy: Update},
			"OCI image layout: open /no/such/index.json: no such file or directory"},
		{"sha512-abcd", unsigned, "not in the store"},
		{"https://127.0.0.1:1/x.aci", Options{PullPolicy: Never}, "not in the store ... never"},
		{"https://127.0.0.1:1/x.aci", Options{PullPolicy: New},
			"signatures cannot be verified ... --insecure-options=image"},
		{"https://127.0.0.1:1/x.aci", unsigned,
			`Get "https://127.0.0.1:1/x.aci": dial tcp 127.0.0.1:1: connect: connection refused`},
		{"example.com/x", Options{PullPolicy: Never}, "not in the store ... never"},
		{"example.com/x", Options{PullPolicy: Update},
			"signatures cannot be verified ... --insecure-options=image"},
		{"/no/such.aci", unsigned, "open /no/such.aci: no such file or directory"},
	} {
		if _, err := Fetch(t.Context(), s, reference(t, c.name), c.o); !testkit.Says(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	wantNothing(t, dir)
}

func TestRegistry(t *testing.T) {
	one, two := gzipLayer(t, "one"), gzipLayer(t, "two")
	l := newLayout(t)
	l.image(one, two)
	g := &registry{dir: l.dir}
	server := httptest.NewServer(g)
	defer server.Close()
	s, _ := newStore(t)
	ref := reference(t, "docker://"+server.Listener.Addr().String()+"/app")
	id, err := Fetch(t.Context(), s, ref, unsigned)
	must(t, err)
	g.asked = nil
	for _, policy := range []PullPolicy{New, Update} {
		o := unsigned
		o.PullPolicy = policy
		if again, err := Fetch(t.Context(), s, ref, o); again != id || err != nil {
			t.Errorf("%s: %s %v", policy, again, err)
		}
	}
	if len(g.asked) != 2 || g.count("/v2/app/manifests/latest") != 1 || g.count("HEAD /v2/app/manifests/latest") != 1 {
		t.Errorf("a second fetch asked for %v", g.asked)
	}

	// The tag moves: update sees it, new does not. The layers they share are not asked for again.
	three := gzipLayer(t, "three")
	l.image(one, three)
	o := unsigned
	o.PullPolicy = New
	if again, err := Fetch(t.Context(), s, ref, o); again != id || err != nil {
		t.Errorf("new: %s %v", again, err)
	}
	moved, err := Fetch(t.Context(), s, ref, unsigned)
	if moved == id || err != nil {
		t.Errorf("update: %s %v", moved, err)
	}
	if n := g.count("/v2/app/blobs/" + digest(one.compressed)); n != 0 {
		t.Errorf("a layer in the store was asked for %d times", n)
	}

	// By digest.
	index, err := os.ReadFile(l.dir + "/index.json")
	must(t, err)
	var parsed struct{ Manifests []struct{ Digest string } }
	must(t, json.Unmarshal(index, &parsed))
	byDigest := reference(t, "docker://"+ref.Host+"/app@"+parsed.Manifests[0].Digest)
	if again, err := Fetch(t.Context(), s, byDigest, unsigned); again != moved || err != nil {
		t.Errorf("by digest: %s %v", again, err)
	}
	wrong := reference(t, "docker://"+ref.Host+"/app@"+digest(nil))
	if _, err := Fetch(t.Context(), s, wrong, unsigned); !testkit.Says(err, "not in the registry "+ref.Host) {
		t.Error(err)
	}
}

// TestBadRegistry is a registry that lies, breaks off or is another machine.
func TestBadRegistry(t *testing.T) {
	big := gzipLayer(t, "noise="+strings.Repeat(rand.Text(), 50_000))
	blob := "/v2/app/blobs/" + digest(big.compressed)
	answer := func(path string, f http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == path {
				f(w, r)
				return true
			}
			return false
		}
	}
	for _, c := range []struct {
		name     string
		override func(http.ResponseWriter, *http.Request) bool
		want     string
	}{
		{"no such image", answer("/v2/app/manifests/latest", http.NotFound), "not in the registry 127.0.0.1:"},
		{"not for everybody", answer("/v2/app/manifests/latest", func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, `{"errors":[{"code":"DENIED","message":"no"}]}`, http.StatusForbidden)
		}), " ... wants credentials ... auth.d"},
		{"manifest is no JSON", answer("/v2/app/manifests/latest", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", typeManifest)
			fmt.Fprint(w, "x")
		}), "invalid character"},
		{"manifest of 100 MB", answer("/v2/app/manifests/latest", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", typeManifest)
			fmt.Fprint(w, "{}"+strings.Repeat(" ", 100<<20))
		}), "longer than 8388608 bytes"},
		{"manifest never ends", answer("/v2/app/manifests/latest", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", typeManifest)
			for r.Context().Err() == nil {
				fmt.Fprint(w, strings.Repeat(" ", 1<<20))
			}
		}), "longer than 8388608 bytes"},
		{"no such layer", answer(blob, http.NotFound), "not in the registry"},
		{"layer breaks off", answer(blob, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(big.compressed)))
			_, _ = w.Write(big.compressed[:1000])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}), fmt.Sprintf("layer %s: truncated: 1000 of %d bytes", digest(big.compressed), len(big.compressed))},
		{"layer is shorter than promised", answer(blob, func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(big.compressed[:1000])
		}), fmt.Sprintf("truncated: 1000 of %d bytes", len(big.compressed))},
		{"layer is another", answer(blob, func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte{7}, len(big.compressed)))
		}), "digest mismatch"},
		{"layer never ends", answer(blob, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write(big.compressed)
			}
		}), fmt.Sprintf("longer than its %d bytes", len(big.compressed))},
		{"layer by plain HTTP from another machine", answer(blob, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/layer", http.StatusFound)
		}), "plain HTTP ... --insecure-options=http"},
		{"manifest by plain HTTP from another machine", answer("/v2/app/manifests/latest",
			func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://192.0.2.1:5000/v2/", http.StatusFound)
			}), "plain HTTP"},
		{"redirects without end", answer(blob, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}), "more than 10 redirects"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("http_proxy", "http://192.0.2.1:3128") // asked for nothing
			s, dir := newStore(t)
			l := newLayout(t)
			l.image(big)
			server := httptest.NewServer(&registry{dir: l.dir, override: c.override})
			defer server.Close()
			_, err := Fetch(t.Context(), s, reference(t, "docker://"+server.Listener.Addr().String()+"/app"), unsigned)
			if !testkit.Says(err, c.want) {
				t.Errorf("%v\nwant %s", err, c.want)
			}
			wantNothing(t, dir)
		})
	}
}

// TestRegistryBreaksOff has a layer break off, and the registry be too busy in between.
func TestRegistryBreaksOff(t *testing.T) {
	var noise strings.Builder
	for range 10_000 {
		noise.WriteString(rand.Text())
	}
	big := gzipLayer(t, "noise="+noise.String())
	l := newLayout(t)
	l.image(big)
	var ranges []string
	g := &registry{dir: l.dir, override: func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, digest(big.compressed)) {
			return false
		}
		switch ranges = append(ranges, r.Header.Get("Range")); len(ranges) {
		case 1:
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		case 2:
			http.ServeContent(&breaking{w, 50_000}, r, "", time.Unix(1e9, 0), bytes.NewReader(big.compressed))
		case 3:
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		http.ServeContent(w, r, "", time.Unix(1e9, 0), bytes.NewReader(big.compressed))
		return true
	}}
	server := httptest.NewServer(g)
	defer server.Close()
	s, _ := newStore(t)
	if _, err := Fetch(t.Context(), s, reference(t, "docker://"+server.Listener.Addr().String()+"/app"),
		quick); err != nil {
		t.Error(err)
	}
	if want := []string{"", "", "bytes=50000-", "bytes=50000-"}; !slices.Equal(ranges, want) {
		t.Errorf("asked for %q, want %q", ranges, want)
	}
}

func TestTLS(t *testing.T) {
	l := newLayout(t)
	l.image(gzipLayer(t, "f"))
	server := httptest.NewUnstartedServer(&registry{dir: l.dir})
	server.Config.ErrorLog = nil
	server.StartTLS()
	defer server.Close()
	s, dir := newStore(t)
	ref := reference(t, "docker://"+server.Listener.Addr().String()+"/app")
	if _, err := Fetch(t.Context(), s, ref, unsigned); !testkit.Says(err, "certificate") {
		t.Errorf("unknown certificate: %v", err)
	}
	wantNothing(t, dir)
	o := unsigned
	o.InsecureTLS = true
	if _, err := Fetch(t.Context(), s, ref, o); err != nil {
		t.Error(err)
	}
}

// TestManyAtOnce has each blob asked for once, however many want the image.
func TestManyAtOnce(t *testing.T) {
	l := newLayout(t)
	var layers []layer
	for i := range 6 {
		layers = append(layers, gzipLayer(t, fmt.Sprintf("f%d=%s", i, strings.Repeat(rand.Text(), 1000))))
	}
	l.image(layers...)
	g := &registry{dir: l.dir, override: func(http.ResponseWriter, *http.Request) bool {
		time.Sleep(5 * time.Millisecond)
		return false
	}}
	server := httptest.NewServer(g)
	defer server.Close()
	_, dir := newStore(t)
	ref := reference(t, "docker://"+server.Listener.Addr().String()+"/app")
	var wait sync.WaitGroup
	for range 6 {
		wait.Go(func() {
			s, err := store.Open(dir)
			if err == nil {
				err = s.Clean()
			}
			if err == nil {
				_, err = Fetch(t.Context(), s, ref, unsigned)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	for _, layer := range layers {
		if n := g.count("/v2/app/blobs/" + digest(layer.compressed)); n != 1 {
			t.Errorf("a layer was asked for %d times", n)
		}
	}
}

// TestCancel ends a fetch that hangs in the middle of a layer.
func TestCancel(t *testing.T) {
	l := newLayout(t)
	big := gzipLayer(t, "noise="+strings.Repeat(rand.Text(), 50_000))
	l.image(big)
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(&registry{dir: l.dir, override: func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, digest(big.compressed)) {
			return false
		}
		_, _ = w.Write(big.compressed[:len(big.compressed)/2])
		w.(http.Flusher).Flush()
		time.AfterFunc(50*time.Millisecond, cancel)
		<-r.Context().Done()
		return true
	}})
	defer server.Close()
	s, dir := newStore(t)
	begin := time.Now()
	_, err := Fetch(ctx, s, reference(t, "docker://"+server.Listener.Addr().String()+"/app"), unsigned)
	if !errors.Is(err, context.Canceled) || time.Since(begin) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	wantNothing(t, dir)
}

const aciText = `{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/app"`

func TestACI(t *testing.T) {
	plain := tarOf(t, "manifest="+aciText+"}", "rootfs/", "rootfs/bin/app=1", "rootfs/.wh.x=not special",
		"rootfs/l->/etc")
	bz, err := base64.StdEncoding.DecodeString(bzip2ACI)
	must(t, err)
	xz := exec.Command("xz", "-c")
	xz.Stdin = bytes.NewReader(plain)
	xzed, err := xz.Output()
	must(t, err)
	want := fmt.Sprintf("sha512-%x", sha512.Sum512(plain))
	for name, data := range map[string][]byte{"plain": plain, "gzip": gzipped(t, plain), "zstd": zstded(t, plain),
		"bzip2": bz, "xz": xzed, "gzip in two members": append(gzipped(t, plain[:700]), gzipped(t, plain[700:])...)} {
		s, dir := newStore(t)
		file := filepath.Join(t.TempDir(), "app.aci")
		must(t, os.WriteFile(file, data, 0o644))
		for range 2 {
			id, err := Fetch(t.Context(), s, reference(t, file), unsigned)
			if err != nil || id != want && name != "bzip2" {
				t.Fatalf("%s: %s %v", name, id, err)
			}
			img, err := s.Image(id)
			if err != nil || len(img.Layers) != 1 || store.LayerName(img.Layers[0]) != id {
				t.Errorf("%s: %+v %v", name, img, err)
			}
		}
		if name == "plain" { // the file changes, and a new image is what it is then
			must(t, os.WriteFile(file, tarOf(t, "rootfs/", "manifest="+aciText+"}"), 0o644))
			if id, err := Fetch(t.Context(), s, reference(t, file), unsigned); id == want || err != nil {
				t.Errorf("changed: %s %v", id, err)
			}
			if text, err := os.ReadFile(s.LayerPath(want) + "/.wh.x"); string(text) != "not special" || err != nil {
				t.Errorf("%q %v", text, err)
			}
		}
		if entries, _ := os.ReadDir(filepath.Join(dir, "cas/tmp")); len(entries) != 0 {
			t.Errorf("left over: %v", entries)
		}
	}
}

// bzip2ACI was made by Python; Go only reads bzip2.
const bzip2ACI = "" +
	"QlpoOTFBWSZTWep94OsAAMN/iM2QABBQBf/QACoBYH+n3koAgAgIMAC5thqgGgA0AAAA0ADU0iMCYABMAAAAbUkRpoyZDTQZGgMg" +
	"aGml9vTLJM2BhrmQEWISBZ5mtJ1DGiWfU4jMYITJHNyWbJR5rseupc0NKqig+WtUn0JYZByArVjwEqJnnkKK6pLAQL6C/SnVVWB0" +
	"iB1GAM3CRBkA5H0fH+by4wZVJ1zxsGlugyGFxzX5532QIsLoiJAwTBUzvoZSgiA+JBQq8fgjoEJfxdyRThQkOp94OsA="

// TestNotCompressed is an archive whose first name looks like the beginning of a compressed file.
func TestNotCompressed(t *testing.T) {
	s, _ := newStore(t)
	l := newLayout(t)
	data := tarOf(t, "BZhang=1", "BZh91AY&S=2")
	l.image(layer{data, digest(data)}, layer{tarOf(t, "BZh9/"), digest(tarOf(t, "BZh9/"))})
	if _, err := Fetch(t.Context(), s, reference(t, "oci:"+l.dir), unsigned); err != nil {
		t.Error(err)
	}
}

// greedyXZ is the beginning of an xz stream whose only block says that a dictionary of 4 GiB is
// needed.
func greedyXZ(t testing.TB) []byte {
	t.Helper()
	crc := func(data []byte) []byte { return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(data)) }
	// xz-file-format.txt 2.1.1 and 3.1: LZMA2, dictionary size 40
	flags, block := []byte{0, 4}, []byte{2, 0, 0x21, 1, 40, 0, 0, 0}
	return slices.Concat([]byte("\xfd7zXZ\x00"), flags, crc(flags), block, crc(block), make([]byte, 100))
}

func TestBadACI(t *testing.T) {
	whole := tarOf(t, "manifest="+aciText+"}", "rootfs/", "rootfs/a=1", "rootfs/b=2")
	for _, c := range []struct {
		name, want string
		data       []byte
	}{
		{"empty", "bad archive: unexpected EOF", nil},
		{"text", "bad archive: ", []byte("this is no image, but it is a file of some length\n")},
		{"cut between entries", "bad archive: unexpected EOF", whole[:len(whole)-2048]},
		{"cut gzip", "bad archive: unexpected EOF", gzipped(t, whole)[:150]},
		{"no manifest", "not an ACI", tarOf(t, "rootfs/", "rootfs/a=1")},
		{"no rootfs", "no rootfs in it", tarOf(t, "manifest="+aciText+"}")},
		{"two manifests", "a second manifest", tarOf(t, "manifest="+aciText+"}", "manifest="+aciText+"}", "rootfs/")},
		{"a directory as manifest", "not a file", tarOf(t, "manifest/", "rootfs/")},
		{"manifest is no JSON", `entry "manifest": `, tarOf(t, "manifest=x", "rootfs/")},
		{"manifest of another kind", "ACKind", tarOf(t, `manifest={"acKind":"PodManifest","acVersion":"0.8.11"}`,
			"rootfs/")},
		{"manifest with a bad name", "ACIdentifier",
			tarOf(t, `manifest={"acKind":"ImageManifest","acVersion":"0.8.11","name":"../x"}`, "rootfs/")},
		{"something else", `entry "etc/passwd": ... only manifest and rootfs`,
			tarOf(t, "manifest="+aciText+"}", "rootfs/", "etc/passwd=x")},
		{"dot-dot", `entry "rootfs/../../x": .. in the name`, tarOf(t, "manifest="+aciText+"}", "rootfs/../../x=1")},
		{"manifest of 100 MB", `entry "manifest": larger than 16777216 bytes`,
			tarOf(t, "manifest="+strings.Repeat(" ", 100<<20), "rootfs/")},
		{"manifest of 100 MB in gzip", `entry "manifest": larger than 16777216 bytes`,
			gzipped(t, tarOf(t, "manifest="+strings.Repeat(" ", 100<<20), "rootfs/"))},
		{"other machine", `bad os "freebsd": it is for freebsd/`,
			tarOf(t, "manifest="+aciText+`,"labels":[{"name":"os","value":"freebsd"},{"name":"arch","value":"amd64"}]}`,
				"rootfs/")},
	} {
		s, dir := newStore(t)
		file := filepath.Join(t.TempDir(), "app.aci")
		must(t, os.WriteFile(file, c.data, 0o644))
		if id, err := Fetch(t.Context(), s, reference(t, file), unsigned); !testkit.Says(err, c.want) {
			t.Errorf("%s: %s %v", c.name, id, err)
		}
		wantNothing(t, dir)
	}
	s, _ := newStore(t)
	if _, err := Fetch(t.Context(), s, reference(t, t.TempDir()), unsigned); !testkit.Says(err, "not a regular file") {
		t.Error(err)
	}
}

func TestProgress(t *testing.T) {
	s, _ := newStore(t)
	l := newLayout(t)
	one, two := gzipLayer(t, "one"), gzipLayer(t, "two="+strings.Repeat(rand.Text(), 50_000))
	l.image(one, two)
	var mu sync.Mutex
	last := map[string]Progress{}
	o := unsigned
	o.Progress = func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		if p.Got < last[p.Blob].Got {
			t.Errorf("%+v after %+v", p, last[p.Blob])
		}
		last[p.Blob] = p
	}
	_, err := Fetch(t.Context(), s, reference(t, "oci:"+l.dir), o)
	must(t, err)
	for _, layer := range []layer{one, two} {
		n := int64(len(layer.compressed))
		if p := last[digest(layer.compressed)]; p.Got != n || p.Size != n {
			t.Errorf("%+v, want %d bytes", p, n)
		}
	}
}

// FuzzDecompress has each kind of stream be wrong in all ways: an error or an end, within bounds.
func FuzzDecompress(f *testing.F) {
	text := []byte(strings.Repeat("some text ", 100))
	bz, err := base64.StdEncoding.DecodeString(bzip2ACI)
	must(f, err)
	xz, err := base64.StdEncoding.DecodeString("" +
		"/Td6WFoAAATm1rRGAgAhARYAAAB0L+Wj4APnABZdADmbyfLnULjF4ly1leg8txYIRko/DQAAAACOxnHdQkfjJQABMu" +
		"gHAAAA3MaUD7HEZ/sCAAAAAARZWg==")
	must(f, err)
	for _, seed := range [][]byte{text, gzipped(f, text), zstded(f, text), bz, xz, greedyXZ(f)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decompress(bytes.NewReader(data))
		if err != nil {
			return
		}
		defer r.Close()
		_, _ = io.Copy(io.Discard, io.LimitReader(r, 16<<20))
	})
}

// FuzzManifest has an image's manifest, its config and the index before it be anything: an error,
// since its layers are not there.
func FuzzManifest(f *testing.F) {
	good := gzipLayer(f, "file=text")
	l := newLayout(f)
	manifest, conf := text(f, l.manifest(config(good), good)), text(f, config(good))
	f.Add([]byte(manifest), []byte(conf), []byte(`{"manifests":[{"mediaType":"`+typeManifest+
		`","platform":{"os":"linux"}}]}`))
	f.Add([]byte(`{"config":{"mediaType":"`+typeConfig+`"},"layers":[{},{}]}`),
		[]byte(`{"rootfs":{"diff_ids":["sha256:","x"]}}`), []byte(`{}`))
	f.Add([]byte(`{"config":{"mediaType":"`+typeConfig+`"}}`),
		[]byte(`{"config":{"Env":["=","A"],"ExposedPorts":{"x/y":{}}}}`), []byte(`{"manifests":null}`))
	s, dir := newStore(f) // one for all, and no layer in it: what is synced takes longer than what is looked for
	f.Fuzz(func(t *testing.T, manifest, conf, index []byte) {
		get := func(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
			switch d.Digest.String() {
			case digest(conf):
				return io.NopCloser(bytes.NewReader(conf)), nil
			case digest(manifest):
				return io.NopCloser(bytes.NewReader(manifest)), nil
			}
			return nil, os.ErrNotExist
		}
		hash := func(data []byte) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: hexOf(data)} }
		var all v1.IndexManifest
		if json.Unmarshal(index, &all) == nil {
			for i := range all.Manifests { // what is said of it, and that it is there
				all.Manifests[i].Digest, all.Manifests[i].Size = hash(manifest), int64(len(manifest))
			}
			_, _, _ = findManifest(t.Context(), image.Reference{}, Platform{}, all, get)
		}
		m, err := parseManifest(manifest)
		if err != nil {
			return
		}
		m.Config.Digest, m.Config.Size = hash(conf), int64(len(conf))
		id, err := addOCI(t.Context(), s, reference(t, "docker://x.example/y"), unsigned.withDefaults(), m, get)
		if err == nil && len(m.Layers) > 0 {
			t.Errorf("%s: an image %s without its layers", dir, id)
		}
	})
}
