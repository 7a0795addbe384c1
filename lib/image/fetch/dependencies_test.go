package fetch

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/appc/spec/pkg/acirenderer"
	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image/part"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/testkit"
	"golang.org/x/sys/unix"
)

// shop is example.com with ACIs that depend on each other.
type shop struct {
	t   testing.TB
	web *web
}

func newShop(t testing.TB) *shop {
	return &shop{t, &web{files: map[string][]byte{"/": tag("example.com https://example.com/{name}.{ext}")}}}
}

// add puts an ACI into the shop.
func (s *shop) add(name, fields string, entries ...string) []byte {
	s.t.Helper()
	aci := aciOf(s.t, "example.com/"+name, fields, entries...)
	s.web.files["/example.com/"+name+".aci"] = aci
	return aci
}

func dependsOn(names ...string) string {
	var list []string
	for _, name := range names {
		list = append(list, `{"imageName":"example.com/`+name+`"}`)
	}
	return `,"dependencies":[` + strings.Join(list, ",") + `]`
}

// view is what an app of an image sees: names of directories, and files with their text, of its
// layers put together as overlayfs does.
func view(t testing.TB, img *store.Image) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, layer := range slices.Backward(img.Layers) {
		under := map[string]string{}
		must(t, part.EachEntry(layer, func(name string, d fs.DirEntry) error {
			for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
				if above, ok := all[dir]; ok && above != "/" {
					return nil // hidden by what is no directory
				}
			}
			if _, ok := all[name]; ok {
				return nil
			}
			if d.IsDir() {
				under[name] = "/"
				return nil
			}
			text, err := os.ReadFile(filepath.Join(layer, name))
			under[name] = string(text)
			return err
		}))
		maps.Copy(all, under)
	}
	return all
}

func files2text(all map[string]string) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		lines = append(lines, name+"="+all[name])
	}
	return strings.Join(lines, " ")
}

func TestDependencies(t *testing.T) {
	s, dir := newStore(t)
	shop := newShop(t)
	o := example(t, shop.web)
	d := shop.add("d", "", "etc/", "etc/d=d", "etc/both=d", "etc/all=d")
	c := shop.add("c", dependsOn("d"), "etc/", "etc/both=c", "etc/all=c", "c=c")
	b := shop.add("b", "", "etc/", "etc/all=b", "b=b", "c=b")
	a := shop.add("a", dependsOn("b", "c"), "etc/", "etc/all=a")
	id, err := Fetch(t.Context(), s, reference(t, "example.com/a"), o)
	if err != nil || id != idOf(a) {
		t.Fatalf("%s %v", id, err)
	}
	img, err := s.Image(id)
	must(t, err)
	want := []string{s.LayerPath(idOf(b)), s.LayerPath(idOf(d)), s.LayerPath(idOf(c)), s.LayerPath(idOf(a))}
	if !slices.Equal(img.Layers, want) {
		t.Errorf("layers %v, want %v", img.Layers, want)
	}
	if got, want := files2text(view(t, img)), "b=b c=c etc=/ etc/all=a etc/both=c etc/d=d"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	// Each is an image of its own, and known by its name.
	for name, aci := range map[string][]byte{"b": b, "c": c, "d": d} {
		got, err := Fetch(t.Context(), s, reference(t, "example.com/"+name),
			Options{PullPolicy: Never, InsecureImage: true})
		if err != nil || got != idOf(aci) {
			t.Errorf("%s: %s %v", name, got, err)
		}
	}
	// Nothing is asked of the server, and once of each with update.
	shop.web.reset()
	o.PullPolicy = New
	if again, err := Fetch(t.Context(), s, reference(t, "example.com/a"), o); again != id || err != nil {
		t.Errorf("%s %v", again, err)
	}
	shop.web.wantAsked(t)
	o.PullPolicy = Update
	if again, err := Fetch(t.Context(), s, reference(t, "example.com/a"), o); again != id || err != nil {
		t.Errorf("%s %v", again, err)
	}
	for _, line := range shop.web.asked {
		if strings.HasSuffix(line, " 200") && line != "/?ac-discovery=1 200" {
			t.Errorf("asked %q", shop.web.asked)
		}
	}

	// What it depends on is changed: it is the same image with other layers.
	d2 := shop.add("d", "", "etc/", "etc/d=new")
	if again, err := Fetch(t.Context(), s, reference(t, "example.com/a"), o); again != id || err != nil {
		t.Errorf("%s %v", again, err)
	}
	img, err = s.Image(id)
	must(t, err)
	if img.Layers[1] != s.LayerPath(idOf(d2)) || !strings.Contains(files2text(view(t, img)), "etc/d=new") {
		t.Errorf("%v", img.Layers)
	}

	// From a file, with what the store has.
	file := archiveFile(t, aciOf(t, "example.com/local", dependsOn("c"), "l=l"))
	o.PullPolicy = New
	shop.web.reset()
	id, err = Fetch(t.Context(), s, reference(t, file), o)
	must(t, err)
	shop.web.wantAsked(t)
	if img, err = s.Image(id); err != nil || len(img.Layers) != 3 {
		t.Errorf("%+v %v", img, err)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "cas/tmp")); len(entries) != 0 {
		t.Errorf("left over: %v", entries)
	}
}

// TestDependencyByID is a dependency that the store has by another way, and one that is told by ID
// and size.
func TestDependencyByID(t *testing.T) {
	shop := newShop(t)
	base := shop.add("base", `,"labels":[{"name":"version","value":"1"}]`, "base=1")
	size := len(gzipped(t, base))
	for _, c := range []struct{ name, dependency, want string }{
		{"id", `"imageID":"` + idOf(base) + `"`, ""},
		{"labels", `"labels":[{"name":"version","value":"1"}]`, ""},
		{"size", fmt.Sprintf(`"size":%d`, len(base)), ""},
		{"size of the file", fmt.Sprintf(`"size":%d`, size), ""},
		{"all", fmt.Sprintf(`"imageID":"%s","labels":[{"name":"version","value":"1"}],"size":%d`, idOf(base),
			len(base)), ""},
		{"another id", `"imageID":"` + idOf(nil) + `"`,
			"dependency example.com/base: https://example.com/example.com/base.aci: its ID is " + idOf(base)},
		{"another version", `"labels":[{"name":"version","value":"2"}]`, `its label version is "1", not "2"`},
		{"larger", `"size":100000`, "uncompressed, and not 100000"},
		{"smaller", `"size":10`, "longer than 10 bytes"},
		{"negative", `"size":-1`, "dependencies.size of type uint"},
		{"immense", `"size":18446744073709551615`, "a size of 18446744073709551615 bytes"},
		{"bad label", `"labels":[{"name":"channel","value":""}]`, `label "channel" has no value`},
	} {
		t.Run(c.name, func(t *testing.T) {
			shop.t = t
			app := shop.add("app", `,"dependencies":[{"imageName":"example.com/base",`+c.dependency+`}]`, "app=1")
			shop.web.files["/example.com/base.aci"] = gzipped(t, base)
			s, _ := newStore(t)
			o := example(t, shop.web)
			id, err := Fetch(t.Context(), s, reference(t, "example.com/app"), o)
			if c.want == "" && (err != nil || id != idOf(app)) ||
				!testkit.Says(err, c.want) {
				t.Errorf("%s %v\nwant %s", id, err, c.want)
			}
			if _, err := s.Image(idOf(app)); (err == nil) != (c.want == "") {
				t.Errorf("image: %v", err)
			}
			if c.want != "" {
				return
			}
			// With the base in the store by another name, the server is not asked for it.
			s, _ = newStore(t)
			if _, err := Fetch(t.Context(), s, reference(t, archiveFile(t, base)), o); err != nil {
				t.Error(err)
			}
			shop.web.reset()
			o.PullPolicy = New
			if id, err := Fetch(t.Context(), s, reference(t, archiveFile(t, app)), o); id != idOf(app) || err != nil {
				t.Errorf("%s %v", id, err)
			}
			shop.web.wantAsked(t)
		})
	}
}

func TestBadDependencies(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(shop *shop)
		want string
	}{
		{"missing", func(s *shop) { s.add("app", dependsOn("gone")) },
			"dependency example.com/gone: https://example.com/example.com/gone.aci: not on the server"},
		{"of itself", func(s *shop) { s.add("app", dependsOn("app")) },
			"dependency example.com/app: example.com/app depends on itself"},
		{"a circle", func(s *shop) {
			s.add("app", dependsOn("b"))
			s.add("b", dependsOn("c"))
			s.add("c", dependsOn("b"))
		}, "dependency example.com/b: dependency example.com/c: dependency example.com/b: example.com/b depends on " +
			"itself"},
		{"without end", func(s *shop) {
			n := 0
			s.web.override = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.RawQuery != "" {
					return false
				}
				n++
				_, _ = w.Write(aciOf(s.t, "example.com/"+strings.TrimSuffix(filepath.Base(r.URL.Path), ".aci"),
					dependsOn(fmt.Sprintf("d%d", n))))
				return true
			}
		}, "more than 500 images"},
		{"a bush", func(s *shop) { // two of each on each floor
			for i := range 30 {
				s.add(fmt.Sprintf("d%d", i), dependsOn(fmt.Sprintf("d%d", i+1), fmt.Sprintf("d%d", i+1)))
			}
			s.add("d30", "")
			s.add("app", dependsOn("d0"))
		}, "more than 500 images"},
		{"a name that is none", func(s *shop) { s.add("app", `,"dependencies":[{"imageName":"example.com/../x"}]`) },
			`".." cannot be a part`},
		{"a bad archive", func(s *shop) {
			s.add("app", dependsOn("b"))
			s.add("b", "", "../../evil=x")
		},
			`dependency example.com/b: ... /b.aci: entry "rootfs/../../evil": .. in the name`},
		{"another name", func(s *shop) {
			s.add("app", dependsOn("b"))
			s.web.files["/example.com/b.aci"] = s.add("c", "")
		}, "it is called example.com/c in its manifest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			shop := newShop(t)
			c.make(shop)
			s, dir := newStore(t)
			id, err := Fetch(t.Context(), s, reference(t, "example.com/app"), example(t, shop.web))
			if !testkit.Says(err, c.want) {
				t.Errorf("%s %.300v\nwant %s", id, err, c.want)
			}
			if ids, err := s.Images(); len(ids) > 0 || err != nil {
				t.Errorf("%d images: %v", len(ids), err)
			}
			if entries, _ := os.ReadDir(filepath.Join(dir, "cas/tmp")); len(entries) != 0 {
				t.Errorf("left over: %v", entries)
			}
		})
	}
}

func TestWhitelist(t *testing.T) {
	shop := newShop(t)
	base := shop.add("base", "", "etc/", "etc/a=a", "etc/b=b", "var/", "var/x=x", "opt/deep/er/f=f", "l->etc")
	app := shop.add("app", dependsOn("base")+`,"pathWhitelist":["/etc/a","/opt/deep/er/f","/own","/l/","/nothing"]`,
		"own=1", "other=1", "empty/", "etc/")
	all := shop.add("all", `,"pathWhitelist":["/own","/dir"]`, "own=1", "dir/")
	s, _ := newStore(t)
	o := example(t, shop.web)
	_, err := Fetch(t.Context(), s, reference(t, "example.com/app"), o)
	must(t, err)
	img, err := s.Image(idOf(app))
	must(t, err)
	got := view(t, &store.Image{Layers: img.Layers[1:]})
	if text := files2text(got); text != "empty=/ etc=/ own=1" {
		t.Errorf("own: %s", text)
	}
	for _, layer := range img.Layers {
		if !strings.HasPrefix(store.LayerName(layer), "part-") {
			t.Errorf("%s", layer)
		}
	}
	var one, two unix.Stat_t
	must(t, errors.Join(unix.Lstat(s.LayerPath(idOf(base))+"/etc/a", &one), unix.Lstat(img.Layers[0]+"/etc/a", &two)))
	if one.Ino != two.Ino {
		t.Error("a file was copied")
	}
	for _, gone := range []string{"etc/b", "var", "var/x"} {
		if _, err := os.Lstat(img.Layers[0] + "/" + gone); err == nil {
			t.Errorf("%s is there", gone)
		}
	}
	for _, there := range []string{"etc/a", "opt/deep/er/f", "l"} {
		if _, err := os.Lstat(img.Layers[0] + "/" + there); err != nil {
			t.Error(err)
		}
	}
	// The base itself is whole, and a whitelist that hides nothing costs no layer.
	if img, err := s.Image(idOf(base)); err != nil || len(img.Layers) != 1 || img.Layers[0] != s.LayerPath(idOf(base)) {
		t.Errorf("%+v %v", img, err)
	}
	_, err = Fetch(t.Context(), s, reference(t, "example.com/all"), o)
	must(t, err)
	if img, err := s.Image(idOf(all)); err != nil || img.Layers[0] != s.LayerPath(idOf(all)) {
		t.Errorf("%+v %v", img, err)
	}
}

// TestImpliedFolders has directories that an archive only implies be like those of the image below,
// as appc's renderer makes them.
func TestImpliedFolders(t *testing.T) {
	shop := newShop(t)
	base := []byte(nil)
	for _, e := range []*tar.Header{
		{Name: "manifest", Typeflag: tar.TypeReg}, {Name: "rootfs/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "rootfs/tmp/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 7, Gid: 8},
		{Name: "rootfs/srv/", Typeflag: tar.TypeDir, Mode: 0o700}, {Name: "rootfs/srv/deep/", Typeflag: tar.TypeDir,
			Mode: 0o711, Uid: 9},
		{Name: "rootfs/link", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		text := ""
		if e.Name == "manifest" {
			text = strings.Replace(aciText, "example.com/app", "example.com/base", 1) + "}"
		}
		e.Size = int64(len(text))
		must(t, w.WriteHeader(e))
		_, err := io.WriteString(w, text)
		must(t, errors.Join(err, w.Flush()))
		base = append(base, b.Bytes()...)
	}
	base = append(base, make([]byte, 1024)...)
	shop.web.files["/example.com/base.aci"] = base
	app := shop.add("app", dependsOn("base"), "tmp/x=1", "srv/deep/y=1", "new/z=1", "link/a/b=1", "own/", "own/o=1")
	s, _ := newStore(t)
	o := example(t, shop.web)
	_, err := Fetch(t.Context(), s, reference(t, "example.com/app"), o)
	must(t, err)
	img, err := s.Image(idOf(app))
	must(t, err)
	top := img.Layers[1]
	if !strings.HasPrefix(store.LayerName(top), "part-") || img.Layers[0] != s.LayerPath(idOf(base)) {
		t.Fatal(img.Layers)
	}
	for name, want := range map[string]string{"tmp": "1777 7:8", "srv": "700 0:0", "srv/deep": "711 9:0",
		"new": "755 0:0", "link": "755 0:0", "own": "755 0:0"} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(top, name), &st))
		if got := fmt.Sprintf("%o %d:%d", st.Mode&0o7777, st.Uid, st.Gid); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := files2text(view(t, &store.Image{Layers: img.Layers[1:]})); got != "link=/ link/a=/ link/a/b=1 new=/ "+
		"new/z=1 own=/ own/o=1 srv=/ srv/deep=/ srv/deep/y=1 tmp=/ tmp/x=1" {
		t.Error(got)
	}
	again, err := Fetch(t.Context(), s, reference(t, "example.com/app"), o)
	if err != nil || again != idOf(app) {
		t.Errorf("%s %v", again, err)
	}
	if now, err := s.Image(again); err != nil || !slices.Equal(now.Layers, img.Layers) {
		t.Errorf("%v %v", now, err)
	}
	// By itself it has its own layer.
	alone := shop.add("alone", "", "tmp/x=1")
	_, err = Fetch(t.Context(), s, reference(t, "example.com/alone"), o)
	must(t, err)
	if img, err := s.Image(idOf(alone)); err != nil || img.Layers[0] != s.LayerPath(idOf(alone)) {
		t.Errorf("%v %v", img, err)
	}
}

// acis of appc's own renderer.
type rendererStore map[string][]byte

func (r rendererStore) ReadStream(key string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(r[key])), nil
}
func (r rendererStore) ResolveKey(key string) (string, error) { return key, nil }
func (r rendererStore) HashToKey(h hash.Hash) string          { return fmt.Sprintf("sha512-%x", h.Sum(nil)) }
func (r rendererStore) GetACI(name types.ACIdentifier, _ types.Labels) (string, error) {
	for key := range r {
		if m, _ := r.GetImageManifest(key); m.Name == name {
			return key, nil
		}
	}
	return "", fs.ErrNotExist
}

func (r rendererStore) GetImageManifest(key string) (*schema.ImageManifest, error) {
	tar := string(r[key])
	begin := strings.Index(tar, "{")
	m := new(schema.ImageManifest)
	return m, json.NewDecoder(strings.NewReader(tar[begin:])).Decode(m)
}

// TestLikeACIRenderer compares what an app sees with what appc's renderer makes of the same images.
func TestLikeACIRenderer(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	paths := []string{"a", "b", "d/", "d/x", "d/y", "d/e/", "d/e/z", "f/", "f/g"}
	for round := range 60 {
		shop := newShop(t)
		reference512 := rendererStore{}
		depth := 1 + random.IntN(5)
		// acirenderer applies the whitelist of a sibling to what comes after it: in a chain nobody
		// has siblings
		chain := random.IntN(2) == 0
		var names []string
		var top []byte
		for i := range depth {
			name := fmt.Sprintf("n%d", i)
			fields := ""
			if len(names) > 0 {
				below := []string{names[len(names)-1]}
				if !chain {
					random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
					below = names[:1+random.IntN(len(names))]
				}
				fields += dependsOn(below...)
			}
			if random.IntN(3) == 0 && (chain || i == depth-1) {
				var list []string
				for _, p := range paths {
					if random.IntN(2) == 0 {
						list = append(list, `"/`+p+`"`)
					}
				}
				fields += `,"pathWhitelist":[` + strings.Join(list, ",") + `]`
			}
			var entries []string
			for _, p := range paths {
				if random.IntN(2) == 0 {
					continue
				}
				if strings.HasSuffix(p, "/") {
					entries = append(entries, p)
					continue
				}
				if dir := filepath.Dir(p); dir != "." && !slices.Contains(entries, dir+"/") {
					continue // a directory that is not in the archive has no other place to be hidden from
				}
				entries = append(entries, p+"="+name)
			}
			top = shop.add(name, fields, entries...)
			reference512[idOf(top)] = top
			names = append(names, name)
		}
		s, _ := newStore(t)
		id, err := Fetch(t.Context(), s, reference(t, fmt.Sprintf("example.com/n%d", depth-1)), example(t, shop.web))
		if err != nil || id != idOf(top) {
			t.Fatalf("%s %v", id, err)
		}
		img, err := s.Image(id)
		must(t, err)
		hash, err := types.NewHash(id)
		must(t, err)
		rendered, err := acirenderer.GetRenderedACIWithImageID(*hash, reference512)
		must(t, err)
		want := map[string]string{}
		for _, part := range rendered {
			m, _ := reference512.GetImageManifest(part.Key)
			for name := range part.FileMap {
				if inside, ok := strings.CutPrefix(name, "rootfs/"); ok {
					want[inside] = strings.TrimPrefix(m.Name.String(), "example.com/")
					for dir := filepath.Dir(inside); dir != "."; dir = filepath.Dir(dir) {
						want[dir] = "/" // extracting makes the directories that a file needs
					}
				}
			}
		}
		for name := range want {
			if slices.Contains(paths, name+"/") {
				want[name] = "/"
			}
		}
		if got, want := files2text(view(t, img)), files2text(want); got != want {
			t.Fatalf("round %d: %s\nwant %s", round, got, want)
		}
	}
}
