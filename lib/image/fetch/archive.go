package fetch

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/image/unpack"
)

// fromArchive fetches from a tar file that holds an OCI image layout, or what docker save and
// podman save write: manifest.json with the names of config and layers, which newer Dockers put
// beside a layout. Which of the two it is, the file tells.
func fromArchive(ctx context.Context, s *store.Store, ref image.Reference, o Options) (fetched, error) {
	a, err := openArchive(ctx, s, ref.Path, o)
	if err != nil {
		return fetched{}, err
	}
	defer a.file.Close()
	order := []string{"index.json", "manifest.json"}
	if ref.Kind == image.DockerArchive {
		slices.Reverse(order)
	}
	for _, name := range order {
		switch _, there := a.entries[name]; {
		case there && name == "index.json":
			return files(a.open).fetch(ctx, s, ref, o)
		case there:
			return a.fetchSaved(ctx, s, ref, o)
		}
	}
	return fetched{}, errors.New("not an archive of images: neither index.json nor manifest.json is in it")
}

// Bounds of an archive's list of entries, which is held in memory.
const (
	maxArchiveEntries = 100_000
	maxArchiveNames   = 16 << 20 // bytes of all names
	maxArchiveLinks   = 10       // one after another
)

// archive is a tar file whose entries can be opened by name, as often as needed. Nothing of it is
// written to disk under its name, so what names and links say is of no danger.
type archive struct {
	file    *os.File // uncompressed
	entries map[string]entry
}

type entry struct {
	offset, size int64
	link         string // name of the entry that is meant, if it is a link
	bad          string // why it cannot be opened
}

// openArchive lists the entries of a tar file. A compressed one is decompressed to a nameless file
// first, as far as the limits go.
func openArchive(ctx context.Context, s *store.Store, file string, o Options) (*archive, error) {
	f, err := openRegular(file)
	if err != nil {
		return nil, err
	}
	head := make([]byte, maxMagic)
	n, err := io.ReadFull(f, head)
	if err == nil || err == io.ErrUnexpectedEOF || err == io.EOF {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil && compression(head[:n]) != nil {
		var plain *os.File
		if plain, err = inflate(ctx, s, f, file, o); err == nil {
			f.Close()
			f = plain
		}
	}
	var a *archive
	if err == nil {
		a, err = listArchive(ctx, f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

// inflate decompresses a file.
func inflate(ctx context.Context, s *store.Store, f *os.File, name string, o Options) (*os.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	v := &verifier{ctx: ctx, r: f, size: info.Size()}
	if o.Progress != nil {
		v.progress = func(got int64) { o.Progress(Progress{Blob: name, Got: got, Size: info.Size()}) }
		v.progress(0)
	}
	plain, err := decompress(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", unpack.ErrArchive, err)
	}
	defer plain.Close()
	scratch, err := s.Scratch(ctx)
	if err != nil {
		return nil, err
	}
	limit := maxUnpacked(o, info.Size())
	n, err := io.Copy(scratch, io.LimitReader(plain, limit+1))
	if err == nil && n > limit {
		err = unpack.TooLarge(limit)
	}
	if err == nil {
		_, err = scratch.Seek(0, io.SeekStart)
	}
	if err != nil {
		scratch.Close()
		return nil, err
	}
	return scratch, nil
}

// listArchive notes where in a tar file each entry is, without reading the entries.
func listArchive(ctx context.Context, f *os.File) (*archive, error) {
	a := &archive{f, map[string]entry{}}
	names := 0
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return a, ctx.Err()
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return nil, fmt.Errorf("%w: %w", unpack.ErrArchive, err)
		}
		name := path.Clean(h.Name)
		if names += len(name) + len(h.Linkname); len(a.entries) >= maxArchiveEntries || names > maxArchiveNames {
			return nil, fmt.Errorf("more than %d entries, or %d bytes of names", maxArchiveEntries, maxArchiveNames)
		}
		var e entry
		switch h.Typeflag {
		case tar.TypeReg:
			e.size = h.Size
			e.offset, err = f.Seek(0, io.SeekCurrent) // the reader reads whole blocks, and no block ahead
			for key := range h.PAXRecords {
				if strings.HasPrefix(key, "GNU.sparse.") {
					e.bad = "a sparse file"
				}
			}
		case tar.TypeSymlink:
			e.link = path.Join(path.Dir(name), h.Linkname)
			if path.IsAbs(h.Linkname) {
				e.bad = "a link that leads out of the archive"
			}
		case tar.TypeLink:
			e.link = path.Clean(h.Linkname)
		case tar.TypeDir, tar.TypeXGlobalHeader:
			continue
		default:
			e.bad = "not a regular file"
		}
		if err != nil {
			return nil, err
		}
		if _, twice := a.entries[name]; twice {
			e.bad = "twice in the archive"
		}
		a.entries[name] = e
	}
}

// find follows links, inside of the archive.
func (a *archive) find(name string) (entry, error) {
	at := path.Clean(name)
	for range maxArchiveLinks {
		e, ok := a.entries[at]
		switch {
		case !ok:
			return e, fmt.Errorf("%s: not in the archive: %w", name, os.ErrNotExist)
		case e.bad != "":
			return e, fmt.Errorf("%s: %s", name, e.bad)
		case e.link == "":
			return e, nil
		}
		at = e.link
	}
	return entry{}, fmt.Errorf("%s: links without end", name)
}

func (a *archive) open(name string) (io.ReadCloser, error) {
	e, err := a.find(name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.NewSectionReader(a.file, e.offset, e.size)), nil
}

// saved is an image in manifest.json (moby's image/spec/v1.2.md, "Combined Image JSON + Filesystem
// Changeset Format").
type saved struct {
	Config   string   // name of an entry
	RepoTags []string // NAME:TAG
	Layers   []string // names of entries, lowest first
}

// fetchSaved fetches an image that manifest.json lists.
func (a *archive) fetchSaved(ctx context.Context, s *store.Store, ref image.Reference, o Options) (fetched, error) {
	if !o.InsecureImage {
		return fetched{},
			errors.New("no signature is known for docker archives: use --insecure-options=image to run it unsigned")
	}
	var all []saved
	if err := files(a.open).readJSON(ctx, "manifest.json", &all); err != nil {
		return fetched{}, err
	}
	img, err := chooseSaved(all, ref.Tag)
	if err != nil {
		return fetched{}, err
	}
	names := map[v1.Hash]string{}
	manifest, err := a.describe(ctx, img, names)
	if err != nil {
		return fetched{}, err
	}
	get := func(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) { return a.open(names[d.Digest]) }
	named := ref // the image's name in its manifest is the one that it has in the archive
	if len(img.RepoTags) > 0 {
		if docker, err := image.ParseReference("docker://" + cmp.Or(matching(img.RepoTags, ref.Tag),
			img.RepoTags[0])); err == nil {
			named = docker
		}
	}
	id, err := addOCI(ctx, s, named, o, manifest, get)
	return fetched{id: id}, err
}

// describe makes the manifest that an image of docker save does not have. A layer's file has no
// digest; of a plain one, the config's diff ID is the digest that it must have. names gets the
// entries of config and layers by digest.
func (a *archive) describe(ctx context.Context, img saved, names map[v1.Hash]string) (*v1.Manifest, error) {
	e, err := a.find(img.Config)
	if err != nil {
		return nil, fmt.Errorf("config %w", err)
	}
	configJSON, err := readSmall(&verifier{ctx: ctx, r: io.NewSectionReader(a.file, e.offset, e.size), size: e.size},
		maxConfig)
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", img.Config, err)
	}
	digest := v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sha256.Sum256(configJSON))}
	if named := digestName.FindStringSubmatch(path.Base(img.Config)); named != nil && named[1] != digest.Hex {
		return nil, fmt.Errorf("config %s: digest mismatch: got %s", img.Config, digest)
	}
	config, err := v1.ParseConfigFile(strings.NewReader(string(configJSON)))
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", img.Config, err)
	}
	diffIDs := config.RootFS.DiffIDs
	if len(diffIDs) != len(img.Layers) || len(diffIDs) > maxLayers {
		return nil, fmt.Errorf("manifest.json and config disagree: %d layers, %d diff IDs (%d is the most)",
			len(img.Layers), len(diffIDs), maxLayers)
	}
	names[digest] = img.Config
	m := &v1.Manifest{Config: v1.Descriptor{MediaType: types.DockerConfigJSON, Digest: digest, Size: e.size}}
	for i, name := range img.Layers {
		e, err := a.find(name)
		if err != nil {
			return nil, fmt.Errorf("layer %w", err)
		}
		digest := diffIDs[i]
		head := make([]byte, maxMagic)
		n, err := io.NewSectionReader(a.file, e.offset, e.size).ReadAt(head, 0)
		if err == io.EOF {
			err = nil
		}
		if compression(head[:n]) != nil {
			h := sha256.New()
			_, err = io.Copy(h, &verifier{ctx: ctx, r: io.NewSectionReader(a.file, e.offset, e.size), size: e.size})
			digest = v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", h.Sum(nil))}
		}
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", name, err)
		}
		names[digest] = name
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: types.DockerUncompressedLayer, Digest: digest,
			Size: e.size})
	}
	return m, nil
}

// digestName is the name of a file that is called after its digest, as docker, podman and
// go-containerregistry do.
var digestName = regexp.MustCompile(`^(?:sha256:)?([0-9a-f]{64})(?:\.json)?$`)

// chooseSaved finds the image of a name, or the only one.
func chooseSaved(all []saved, want string) (saved, error) {
	var fit []saved
	var known []string
	for _, img := range all {
		known = append(known, img.RepoTags...)
		if want == "" || matching(img.RepoTags, want) != "" {
			fit = append(fit, img)
		}
	}
	has := cmp.Or(strings.Join(known, ", "), "no names")
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(all) == 0:
		return saved{}, errors.New("no image in it")
	case len(fit) == 0:
		return saved{}, fmt.Errorf("no image of name %q in it (it has %s)", want, has)
	case want == "":
		return saved{}, fmt.Errorf("more than one image in it: name one with :NAME:TAG at the end (it has %s)", has)
	}
	return saved{}, fmt.Errorf("more than one image of name %q in it (it has %s)", want, has)
}

// matching is the first of the names that is the wanted one, or has it as its tag; "" if none is.
func matching(names []string, want string) string {
	for _, name := range names {
		if sameName(name, want) {
			return name
		}
	}
	for _, name := range names {
		if _, tag, ok := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ":"); ok && tag == want {
			return name
		}
	}
	return ""
}

// sameName reports whether two names of Docker images mean the same: redis and
// docker.io/library/redis:latest do.
func sameName(a, b string) bool {
	if a == b {
		return a != ""
	}
	x, err1 := image.ParseReference("docker://" + a)
	y, err2 := image.ParseReference("docker://" + b)
	return err1 == nil && err2 == nil && x.Key() == y.Key()
}
