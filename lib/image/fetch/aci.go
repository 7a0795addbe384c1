package fetch

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/isolator"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/image/unpack"
)

// maxACIManifest bounds the manifest of an ACI, bytes.
const maxACIManifest = 16 << 20

// acis fetches ACIs: the one that is asked for, and those that it depends on.
type acis struct {
	store   *store.Store
	options Options
	client  *http.Client
	got     map[string]found // dependencies that this call has found
	names   []known          // and what the store is to know them by
	images  int              // in the tree of dependencies so far
}

type known struct {
	ref image.Reference
	id  string
}

// found is an ACI whose rootfs is in the store.
type found struct {
	id       string
	manifest *schema.ImageManifest
	by       *keystore.Proof // who has signed it; nil if nobody need have
}

// want is what is known of an ACI before it is fetched. The zero value is nothing.
type want struct {
	name image.Reference // appc, or none
	id   string
	size int64 // bytes, of the ACI as it is sent or uncompressed

	signature string // path or URL of its signature; "" is where one is by custom
}

// fromACI fetches an ACI (appc spec, aci.md), from a file, a URL or by its name, and what it
// depends on.
func fromACI(ctx context.Context, s *store.Store, ref image.Reference, o Options) (fetched, error) {
	f := &acis{store: s, options: o, client: &http.Client{Transport: newTransport(o, o.Auth)}, got: map[string]found{}}
	root, err := f.get(ctx, ref, want{signature: o.Signature})
	if err != nil {
		return fetched{}, withHint(ref, err)
	}
	t, err := f.tree(ctx, root, nil)
	if err != nil {
		return fetched{}, err
	}
	if err := f.add(ctx, t, map[string]bool{}); err != nil {
		return fetched{}, err
	}
	for _, n := range f.names {
		if err := s.SetRef(ctx, n.ref, n.id); err != nil {
			return fetched{}, err
		}
	}
	return fetched{id: root.id}, nil // add has recorded who signed what
}

// withHint adds the right spelling to an error of a name that is also a file or an OCI image layout
// in the current directory.
func withHint(ref image.Reference, err error) error {
	if ref.Kind == image.Appc {
		if info, err2 := os.Stat(ref.App); err2 == nil && info.Mode().IsRegular() {
			return fmt.Errorf("%w (the file of this name is ./%s)", err, ref.App)
		}
	}
	if _, err2 := os.Stat(filepath.Join(ref.Path, "index.json")); ref.Kind == image.File && err2 == nil {
		return fmt.Errorf("%w (the OCI image layout there is oci:%s)", err, ref.Path)
	}
	return err
}

// get fetches one ACI.
func (f *acis) get(ctx context.Context, ref image.Reference, w want) (found, error) {
	switch ref.Kind {
	case image.URL:
		return f.fromURL(ctx, ref, w)
	case image.Appc:
		w.name = ref
		return f.byName(ctx, ref, w)
	}
	return f.fromFile(ctx, ref, w)
}

// have gives an image of the store if its own rootfs is there as well, which images that depend on
// it need.
func (f *acis) have(id string) (found, bool) {
	img, err := f.store.Image(id)
	if err != nil || !f.store.HasLayer(img.ID) {
		return found{}, false
	}
	return found{id: img.ID, manifest: img.Manifest}, true
}

// check refuses an image that is not the one that is wanted.
func (w want) check(m *schema.ImageManifest) error {
	if w.name.App == "" {
		return nil
	}
	return w.name.Describes(m)
}

// fromFile fetches an ACI file. Its ID is known only when all of it has been read.
func (f *acis) fromFile(ctx context.Context, ref image.Reference, w want) (found, error) {
	proof, err := f.proof(ctx, cmp.Or(w.signature, ref.Path+".asc"))
	if err != nil {
		return found{}, err
	}
	file, err := openRegular(ref.Path)
	if err != nil {
		return found{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return found{}, err
	}
	if id, err := f.store.Lookup(ref); err == nil {
		// then most likely it is that, and to read it costs less than to unpack it
		if old, ok := f.have(id); ok {
			v := f.reader(ctx, file, ref.Path, info.Size())
			proof.of(file, v)
			switch same, err := f.same(v, id); {
			case err != nil:
				return found{}, err
			case same:
				old.by, err = proof.check(ctx, old.manifest.Name.String(), v.got)
				return old, err
			}
			if _, err := file.Seek(0, io.SeekStart); err != nil {
				return found{}, err
			}
		}
	}
	v := f.reader(ctx, file, ref.Path, info.Size())
	proof.of(file, v)
	return f.unpack(ctx, v, want{}, proof)
}

// reader bounds and shows what is read of an ACI. size is -1 if it is not known.
func (f *acis) reader(ctx context.Context, r io.Reader, name string, size int64) *verifier {
	v := &verifier{ctx: ctx, r: r, size: size, max: f.options.MaxBytes}
	if progress := f.options.Progress; progress != nil {
		v.progress = func(got int64) { progress(Progress{Blob: name, Got: got, Size: v.size}) }
		v.progress(0)
	}
	return v
}

// same reports whether a file is the ACI of that ID.
func (f *acis) same(v *verifier, id string) (bool, error) {
	h := sha512.New()
	limit := maxUnpacked(f.options, v.size)
	err := eachByte(v, h, func(r io.Reader) error {
		n, err := io.Copy(io.Discard, io.LimitReader(r, limit+1))
		if err == nil && n > limit {
			err = unpack.TooLarge(limit)
		}
		return err
	})
	return err == nil && fmt.Sprintf("sha512-%x", h.Sum(nil)) == id, err
}

// unpack makes a layer of an ACI's rootfs. The ID is the SHA-512 of the uncompressed ACI, and the
// layer's name.
func (f *acis) unpack(ctx context.Context, v *verifier, w want, p *proof) (found, error) {
	var manifest *schema.ImageManifest
	var untrusted error
	limits := unpackLimits(f.options, max(v.size, 0))
	if v.size < 0 {
		limits.Growing = func() int64 { return maxUnpacked(f.options, v.seen.Load()) }
	}
	limits.EndMarker = true // nobody has told us a digest
	limits.Subtree = "rootfs"
	limits.MarkImplied = true // the image may lie on others, of whose directories these are
	limits.Outside = func(name string, h *tar.Header, r io.Reader) (err error) {
		switch {
		case name == "manifest" && h.Typeflag == tar.TypeReg && manifest == nil:
			if manifest, err = aciManifest(r); err == nil {
				err = w.check(manifest)
			}
			if err == nil && p != nil && f.options.HaveKey != nil {
				untrusted = f.options.HaveKey(ctx, manifest.Name.String())
				err = untrusted
			}
			return err
		case name == "manifest":
			return errors.New("a second manifest, or not a file")
		case name == "" && h.Typeflag == tar.TypeDir:
			return nil
		}
		return errors.New("an ACI holds only manifest and rootfs (give what docker save wrote as docker-archive:FILE)")
	}
	if w.size > 0 {
		v.max = min(v.max, w.size)
	}
	layer, err := f.store.NewLayer(ctx)
	if err != nil {
		return found{}, err
	}
	h := &counter{Hash: sha512.New()}
	err = unpackStream(layer, v, h, limits)
	id := fmt.Sprintf("sha512-%x", h.Sum(nil))
	var by *keystore.Proof
	switch {
	case untrusted != nil:
		err = untrusted
	case err != nil:
	case manifest == nil:
		err = errors.New("not an ACI: it has no manifest")
	case w.id != "" && w.id != id:
		err = fmt.Errorf("its ID is %s, not %s", id, w.id)
	case w.size > 0 && w.size != v.got && w.size != h.bytes:
		err = fmt.Errorf("it has %d bytes, %d uncompressed, and not %d", v.got, h.bytes, w.size)
	default:
		by, err = p.check(ctx, manifest.Name.String(), v.got)
	}
	if err != nil {
		return found{}, errors.Join(err, layer.Discard())
	}
	return found{id, manifest, by}, layer.Commit(id)
}

// counter counts what it hashes.
type counter struct {
	hash.Hash
	bytes int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += int64(len(p))
	return c.Hash.Write(p)
}

// aciManifest reads an image manifest and refuses one of another machine.
func aciManifest(r io.Reader) (*schema.ImageManifest, error) {
	text, err := readSmall(&verifier{ctx: context.Background(), r: r, size: -1}, maxACIManifest)
	if err != nil {
		return nil, err
	}
	m := new(schema.ImageManifest)
	if err := json.Unmarshal(text, m); errors.Is(err, types.ErrInvalidIsolator) && isolator.Unknown(text) != "" {
		return nil, fmt.Errorf("unknown isolator %s", isolator.Unknown(text))
	} else if err != nil {
		return nil, err
	}
	system, _ := m.Labels.Get("os")
	arch, _ := m.Labels.Get("arch")
	if arch == appcArch() {
		arch = runtime.GOARCH
	}
	if err := thisMachine().check(system, arch, ""); err != nil { // in rkt's words
		if system != "" && system != thisMachine().OS {
			return m, fmt.Errorf("bad os %q: %w", system, err)
		}
		return m, fmt.Errorf("bad arch %q: %w", arch, err)
	}
	return m, nil
}

// appcArch is what appc calls this machine's architecture.
func appcArch() string {
	_, arch, err := types.ToAppcOSArch("linux", runtime.GOARCH, "")
	if err != nil {
		return runtime.GOARCH
	}
	return arch
}
