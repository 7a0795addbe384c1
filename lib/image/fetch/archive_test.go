package fetch

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// entryOf is an entry of an archive.
type entryOf struct {
	name, text string
	link       string // of the kind that typ says, a symbolic one if it is 0
	typ        byte
}

func archiveOf(t testing.TB, parts ...entryOf) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, p := range parts {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: p.name, Linkname: p.link, Size: int64(len(p.text)), Mode: 0o644}
		switch {
		case p.typ != 0:
			h.Typeflag = p.typ
		case p.link != "":
			h.Typeflag = tar.TypeSymlink
		}
		must(t, w.WriteHeader(h))
		_, err := w.Write([]byte(p.text))
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func text(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	must(t, err)
	return string(data)
}

// plainLayer is a layer as docker save writes it.
func plainLayer(t testing.TB, entries ...string) layer {
	data := tarOf(t, entries...)
	return layer{data, digest(data)}
}

func hexOf(data []byte) string { return strings.TrimPrefix(digest(data), "sha256:") }

// savedParts is what old Dockers write for an image: a directory for each layer, config and
// manifest.json beside them.
func savedParts(t testing.TB, tags []string, layers ...layer) []entryOf {
	t.Helper()
	configJSON := text(t, config(layers...))
	parts := []entryOf{{name: hexOf([]byte(configJSON)) + ".json", text: configJSON}}
	var names []string
	for _, l := range layers {
		dir := hexOf([]byte(l.diffID))
		names = append(names, dir+"/layer.tar")
		parts = append(parts, entryOf{name: dir + "/", typ: tar.TypeDir}, entryOf{name: dir + "/VERSION", text: "1.0"},
			entryOf{name: dir + "/layer.tar", text: string(l.compressed)})
	}
	return append(parts,
		entryOf{name: "manifest.json",
			text: text(t, []object{{"Config": parts[0].name, "RepoTags": tags, "Layers": names}})})
}

func archiveFile(t testing.TB, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "app.tar")
	must(t, os.WriteFile(file, data, 0o644))
	return file
}

// layoutParts is a layout as an archive.
func layoutParts(t testing.TB, l layout) []entryOf {
	t.Helper()
	var parts []entryOf
	must(t, filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(l.dir, path)
		parts = append(parts, entryOf{name: name, text: string(data)})
		return err
	}))
	return parts
}

func TestArchive(t *testing.T) {
	base, top := plainLayer(t, "bin/", "bin/app=program", "etc/", "etc/old=x"),
		plainLayer(t, "etc/", "etc/.wh.old", "etc/new=y")
	zipped := layer{gzipped(t, top.compressed), top.diffID}
	l := newLayout(t)
	l.image(layer{gzipped(t, base.compressed), base.diffID}, zipped)
	saved := savedParts(t, []string{"redis:7", "h.x:5000/me/app:latest"}, base, top)
	linked := savedParts(t, nil, base, top) // as skopeo and docker write a layer that is there already
	for i, p := range linked {
		if p.name == hexOf([]byte(top.diffID))+"/layer.tar" {
			linked[i] = entryOf{name: p.name, link: "../x/hard.tar"}
		}
	}
	linked = append(linked, entryOf{name: "x/hard.tar", link: "y.tar", typ: tar.TypeLink},
		entryOf{name: "y.tar", text: string(top.compressed)})
	both := layoutParts(t, l) // Docker 25 and later
	configJSON := text(t, config(base, top))
	both = append(both,
		entryOf{name: "manifest.json", text: text(t, []object{{"Config": "blobs/sha256/" + hexOf([]byte(configJSON)),
			"RepoTags": []string{"redis:7"}, "Layers": []string{"blobs/sha256/" + hexOf(gzipped(t, base.compressed)),
				"blobs/sha256/" + hexOf(zipped.compressed)}}})})
	for _, c := range []struct {
		name, ref string // %s is the file
		data      []byte
		manifest  string // the name that the image gets
	}{
		{"docker save", "docker-archive:%s", archiveOf(t, saved...), "registry-1.docker.io/library/redis"},
		{"gzip", "docker-archive:%s:redis:7", gzipped(t, archiveOf(t, saved...)), "registry-1.docker.io/library/redis"},
		{"zstd", "docker-archive:%s:docker.io/library/redis:7", zstded(t, archiveOf(t, saved...)),
			"registry-1.docker.io/library/redis"},
		{"another name", "docker-archive:%s:h.x:5000/me/app", archiveOf(t, saved...), "h.x_5000/me/app"},
		{"only a tag", "docker-archive:%s:7", archiveOf(t, saved...), "registry-1.docker.io/library/redis"},
		{"links", "docker-archive:%s", archiveOf(t, linked...), "app"},
		{"compressed layer", "docker-archive:%s", archiveOf(t, savedParts(t, nil, base, zipped)...), "app"},
		{"oci-archive that is docker's", "oci-archive:%s", archiveOf(t, saved...),
			"registry-1.docker.io/library/redis"},
		{"layout", "oci-archive:%s", archiveOf(t, layoutParts(t, l)...), "app"},
		{"layout, gzip", "oci-archive:%s", gzipped(t, archiveOf(t, layoutParts(t, l)...)), "app"},
		{"docker-archive that is a layout", "docker-archive:%s", archiveOf(t, layoutParts(t, l)...), "app"},
		{"both", "docker-archive:%s:redis:7", archiveOf(t, both...), "registry-1.docker.io/library/redis"},
		{"both, as a layout", "oci-archive:%s", archiveOf(t, both...), "app"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, dir := newStore(t)
			file := archiveFile(t, c.data)
			ref := reference(t, fmt.Sprintf(c.ref, file))
			id, err := Fetch(t.Context(), s, ref, unsigned)
			must(t, err)
			img, err := s.Image(id)
			must(t, err)
			if content, err := os.ReadFile(img.Layers[0] + "/bin/app"); string(content) != "program" || err != nil ||
				len(img.Layers) != 2 {
				t.Errorf("%v: %q %v", img.Layers, content, err)
			}
			if img.Manifest.Name.String() != c.manifest {
				t.Errorf("it is called %s", img.Manifest.Name)
			}
			again, err := Fetch(t.Context(), s, ref, unsigned)
			if again != id || err != nil {
				t.Errorf("%s %v", again, err)
			}
			if by, err := s.Lookup(ref); by != id || err != nil {
				t.Errorf("%s %v", by, err)
			}
			if entries, _ := os.ReadDir(filepath.Join(dir, "cas/tmp")); len(entries) != 0 {
				t.Errorf("left over: %v", entries)
			}
		})
	}
}

// TestArchiveOfCrane is what go-containerregistry writes, as crane, ko and kaniko do: compressed
// layers, named by their digests.
func TestArchiveOfCrane(t *testing.T) {
	data := tarOf(t, "bin/", "bin/app=program")
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	})
	must(t, err)
	img, err := mutate.AppendLayers(empty.Image, layer, layer)
	must(t, err)
	tag, err := name.NewTag("h.x/app:1")
	must(t, err)
	file := filepath.Join(t.TempDir(), "app.tar")
	must(t, tarball.WriteToFile(file, tag, img))
	s, _ := newStore(t)
	id, err := Fetch(t.Context(), s, reference(t, "docker-archive:"+file), unsigned)
	must(t, err)
	stored, err := s.Image(id)
	if err != nil || len(stored.Layers) != 1 || stored.Manifest.Name != "h.x/app" {
		t.Errorf("%+v %v", stored, err)
	}
}

func TestBadArchive(t *testing.T) {
	good := plainLayer(t, "file=text")
	parts := func(change func(parts []entryOf) []entryOf) []byte {
		return archiveOf(t, change(savedParts(t, []string{"app:1"}, good))...)
	}
	manifest := func(v any) []byte {
		return parts(func(p []entryOf) []entryOf { p[len(p)-1].text = text(t, v); return p })
	}
	configName := savedParts(t, nil, good)[0].name
	layerName := hexOf([]byte(good.diffID)) + "/layer.tar"
	two := append(savedParts(t, []string{"one:1"}, good)[:4:4], entryOf{name: "manifest.json", text: text(t, []object{
		{"Config": configName, "RepoTags": []string{"one:1"}, "Layers": []string{layerName}},
		{"Config": configName, "RepoTags": []string{"two:1"}, "Layers": []string{layerName}}})})
	l := newLayout(t)
	l.image(good)
	for _, c := range []struct {
		name, ref string
		data      []byte
		want      string
	}{
		{"empty", "docker-archive:", nil, "neither index.json nor manifest.json"},
		{"text", "docker-archive:", []byte(strings.Repeat("no archive ", 100)),
			"bad archive: archive/tar: invalid tar header"},
		{"truncated header", "docker-archive:", archiveOf(t, two...)[:300], "bad archive: unexpected EOF"},
		{"truncated layer", "docker-archive:", parts(func(p []entryOf) []entryOf { return p })[:6*512+100],
			"bad archive: unexpected EOF"},
		{"truncated gzip", "docker-archive:", gzipped(t, parts(func(p []entryOf) []entryOf { return p }))[:200],
			"unexpected EOF"},
		{"none of ours", "oci-archive:", archiveOf(t, entryOf{name: "repositories", text: "{}"}),
			"not an archive"},
		{"manifest is no JSON", "docker-archive:", archiveOf(t, entryOf{name: "manifest.json", text: "x"}),
			"manifest.json: invalid character"},
		{"manifest of 100 MB", "docker-archive:",
			archiveOf(t, entryOf{name: "manifest.json", text: strings.Repeat(" ", 100<<20)}),
			"manifest.json: larger than 8388608 bytes"},
		{"manifest of 100 MB in gzip", "docker-archive:",
			gzipped(t, archiveOf(t, entryOf{name: "manifest.json", text: strings.Repeat(" ", 100<<20)})),
			"larger than 8388608 bytes"},
		{"no image", "docker-archive:", manifest([]object{}), "no image in it"},
		{"which of two", "docker-archive:", archiveOf(t, two...),
			"one image ... :NAME:TAG ... one:1, two:1"},
		{"neither of two", "docker-archive:%s:three", archiveOf(t, two...),
			`no image of name "three" in it (it has one:1, two:1)`},
		{"both of two", "docker-archive:%s:1", archiveOf(t, two...), `more than one image ... "1"`},
		{"not the one", "docker-archive:%s:three", archiveOf(t, savedParts(t, nil, good)...),
			`"three" ... no names`},
		{"no config", "docker-archive:", manifest([]object{{"Config": "x.json", "Layers": []string{layerName}}}),
			"config x.json: ... in the archive"},
		{"config outside", "docker-archive:",
			manifest([]object{{"Config": "../../../../etc/passwd", "Layers": []string{layerName}}}),
			"config ../../../../etc/passwd: not in the archive"},
		{"absolute layer", "docker-archive:",
			manifest([]object{{"Config": configName, "Layers": []string{"/etc/passwd"}}}),
			"layer /etc/passwd: not in the archive"},
		{"no layer", "docker-archive:", manifest([]object{{"Config": configName, "Layers": []string{}}}),
			"manifest.json and config disagree: 0 layers, 1 diff IDs"},
		{"a directory as layer", "docker-archive:",
			manifest([]object{{"Config": configName, "Layers": []string{filepath.Dir(layerName)}}}),
			"not in the archive"},
		{"changed config", "docker-archive:", parts(func(p []entryOf) []entryOf { p[0].text += " "; return p }),
			"digest mismatch: got sha256:"},
		{"changed layer", "docker-archive:",
			parts(func(p []entryOf) []entryOf { p[3].text = string(tarOf(t, "file=evil")); return p }),
			"digest mismatch: got sha256:"},
		{"changed compressed layer", "docker-archive:", parts(func(p []entryOf) []entryOf {
			p[3].text = string(gzipped(t, tarOf(t, "file=evil")))
			return p
		}), "digest mismatch: ... sha256:"},
		{"layer twice", "docker-archive:", parts(func(p []entryOf) []entryOf { return append(p, p[3]) }),
			"layer.tar: twice"},
		{"manifest twice", "docker-archive:", parts(func(p []entryOf) []entryOf { return append(p, p[4]) }),
			"manifest.json: twice"},
		{"layer is a link out", "docker-archive:",
			parts(func(p []entryOf) []entryOf { p[3] = entryOf{name: layerName, link: "/etc/passwd"}; return p }),
			"leads out of"},
		{"layer is a link up", "docker-archive:",
			parts(func(p []entryOf) []entryOf {
				p[3] = entryOf{name: layerName, link: "../../../etc/passwd"}
				return p
			}), "not in the archive"},
		{"layer is a link to itself", "docker-archive:",
			parts(func(p []entryOf) []entryOf { p[3] = entryOf{name: layerName, link: "layer.tar"}; return p }),
			"links without end"},
		{"layer is a hard link to itself", "docker-archive:", parts(func(p []entryOf) []entryOf {
			p[3] = entryOf{name: layerName, link: layerName, typ: tar.TypeLink}
			return p
		}), "links without end"},
		{"layer is a fifo", "docker-archive:",
			parts(func(p []entryOf) []entryOf { p[3] = entryOf{name: layerName, typ: tar.TypeFifo}; return p }),
			"not a regular file"},
		{"layer leaves its directory", "docker-archive:",
			archiveOf(t, savedParts(t, nil, plainLayer(t, "../evil=x"))...), `entry "../evil": .. in the name`},
		{"names leave the archive", "docker-archive:",
			append(archiveOf(t, entryOf{name: "../../evil", text: "x"}, entryOf{name: "/etc/evil", text: "x"})[:2048],
				manifest([]object{{"Config": "x"}})...), "config x: ... in the archive"},
		{"layout without its blob", "oci-archive:", archiveOf(t, layoutParts(t, l)[3:]...), "not in the archive"},
		{"layout of another tag", "oci-archive:%s:2", archiveOf(t, layoutParts(t, l)...),
			`"2" ... no tags`},
		{"layout with a changed blob", "oci-archive:", func() []byte {
			p := layoutParts(t, l)
			for i := range p {
				if p[i].name == "blobs/sha256/"+hexOf(good.compressed) {
					p[i].text = strings.Repeat("x", len(p[i].text))
				}
			}
			return archiveOf(t, p...)
		}(), "digest mismatch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, dir := newStore(t)
			file := archiveFile(t, c.data)
			name := c.ref + file
			if strings.Contains(c.ref, "%s") {
				name = fmt.Sprintf(c.ref, file)
			}
			id, err := Fetch(t.Context(), s, reference(t, name), unsigned)
			if !testkit.Says(err, c.want) {
				t.Errorf("%s %v\nwant %s", id, err, c.want)
			}
			wantNothing(t, dir)
			if _, err := os.Stat(filepath.Dir(file) + "/evil"); err == nil {
				t.Error("it left the store")
			}
		})
	}
}

// TestArchiveBomb is a small file that decompresses to more than the limits let through, and one
// with too many entries.
func TestArchiveBomb(t *testing.T) {
	s, dir := newStore(t)
	file := archiveFile(t, gzipped(t, make([]byte, 8<<20)))
	o := unsigned
	o.MaxBytes = 4 << 20
	if _, err := Fetch(t.Context(), s, reference(t, "docker-archive:"+file), o); !testkit.Says(err,
		"larger than 4194304 bytes (--unpack-limit=SIZE allows more)") {
		t.Error(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range maxArchiveEntries + 1 {
		must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i)}))
	}
	must(t, os.WriteFile(file, b.Bytes(), 0o644))
	if _, err := Fetch(t.Context(), s, reference(t, "docker-archive:"+file), unsigned); !testkit.Says(err,
		"more than 100000 entries") {
		t.Error(err)
	}
	wantNothing(t, dir)
}

// FuzzArchive has manifest.json and the list of entries be anything: an error, or an image whose
// parts are in the archive.
func FuzzArchive(f *testing.F) {
	good := plainLayer(f, "file=text")
	f.Add(archiveOf(f, savedParts(f, []string{"app:1"}, good)...), "")
	f.Add(archiveOf(f, entryOf{name: "manifest.json", link: "a"},
		entryOf{name: "a", text: `[{"Config":"a","Layers":["a"],"RepoTags":[":"]}]`}), ":")
	f.Add(archiveOf(f, entryOf{name: "index.json", text: `{"manifests":[{"digest":"sha256:` + strings.Repeat("0", 64) +
		`"}]}`}), "1")
	f.Fuzz(func(t *testing.T, data []byte, tag string) {
		file, err := os.CreateTemp(t.TempDir(), "")
		must(t, err)
		defer file.Close()
		_, err = file.Write(data)
		must(t, err)
		_, err = file.Seek(0, io.SeekStart)
		must(t, err)
		a, err := listArchive(t.Context(), file)
		if err != nil {
			return
		}
		for name := range a.entries {
			r, err := a.open(name)
			if err != nil {
				continue
			}
			_, _ = io.Copy(io.Discard, r)
		}
		var all []saved
		if err := files(a.open).readJSON(t.Context(), "manifest.json", &all); err == nil {
			if img, err := chooseSaved(all, tag); err == nil {
				_, _ = a.describe(t.Context(), img, map[v1.Hash]string{})
			}
		}
		var index v1.IndexManifest
		_ = files(a.open).readJSON(t.Context(), "index.json", &index)
		_, _, _ = findManifest(t.Context(), image.Reference{Tag: tag}, Platform{}, index,
			func(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
				return a.open("blobs/sha256/" + d.Digest.Hex)
			})
	})
}
