package fetch

import (
	"archive/tar"
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/store"
)

// maxACIManifest bounds the manifest of an ACI, bytes.
const maxACIManifest = 16 << 20

// fromACI fetches an ACI file (appc spec, aci.md): a tar of manifest and rootfs, compressed or not. Its ID is the SHA-512 of the
// uncompressed tar, so it is known only when all of the file has been read.
func fromACI(ctx context.Context, s *store.Store, ref image.Reference, o Options) (string, error) {
	f, err := openRegular(ref.Path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	v := func() *verifier {
		v := &verifier{ctx: ctx, r: f, size: info.Size()}
		if o.Progress != nil {
			v.progress = func(got int64) { o.Progress(Progress{Blob: ref.Path, Got: got, Size: info.Size()}) }
			v.progress(0)
		}
		return v
	}
	limits := unpackLimits(o, info.Size())
	h := sha512.New()
	sum := func() string { return fmt.Sprintf("sha512-%x", h.Sum(nil)) }
	if id, err := stored(s, ref); err == nil { // then most likely it is that, and to read it costs less than to unpack it
		err := eachByte(v(), h, func(r io.Reader) error {
			n, err := io.Copy(io.Discard, io.LimitReader(r, limits.MaxBytes+1))
			if err == nil && n > limits.MaxBytes {
				err = fmt.Errorf("larger than %d bytes", limits.MaxBytes)
			}
			return err
		})
		if err != nil {
			return "", err
		}
		if sum() == id {
			return id, nil
		}
		h.Reset()
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return "", err
		}
	}

	var manifest *schema.ImageManifest
	limits.EndMarker = true // nobody has told us a digest
	limits.Subtree = "rootfs"
	limits.Outside = func(name string, h *tar.Header, r io.Reader) (err error) {
		switch {
		case name == "manifest" && h.Typeflag == tar.TypeReg && manifest == nil:
			manifest, err = aciManifest(r)
			return err
		case name == "manifest":
			return errors.New("a second manifest, or not a file")
		case name == "" && h.Typeflag == tar.TypeDir:
			return nil
		}
		return errors.New("an ACI holds only manifest and rootfs")
	}
	layer, err := s.NewLayer(ctx)
	if err != nil {
		return "", err
	}
	err = unpackStream(layer.Root, v(), h, limits)
	if err == nil && manifest == nil {
		err = errors.New("not an ACI: it has no manifest")
	}
	if err != nil {
		return "", errors.Join(err, layer.Discard())
	}
	id := sum()
	if err := layer.Commit(id); err != nil {
		return "", err
	}
	return id, s.AddImage(ctx, id, manifest, []string{id}, nil)
}

// aciManifest reads an image manifest and refuses what this program would not do as it says.
func aciManifest(r io.Reader) (*schema.ImageManifest, error) {
	text, err := readSmall(&verifier{ctx: context.Background(), r: r, size: -1}, maxACIManifest)
	if err != nil {
		return nil, err
	}
	m := new(schema.ImageManifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, err
	}
	if len(m.Dependencies) > 0 {
		return nil, fmt.Errorf("it depends on another image (%s), which is not supported yet", m.Dependencies[0].ImageName)
	}
	if len(m.PathWhitelist) > 0 {
		return nil, errors.New("it has a pathWhitelist, which is not supported yet")
	}
	os, _ := m.Labels.Get("os")
	arch, _ := m.Labels.Get("arch")
	if _, want, err := types.ToAppcOSArch("linux", runtime.GOARCH, ""); err == nil && arch == want {
		arch = runtime.GOARCH
	}
	return m, checkPlatform(os, arch)
}
