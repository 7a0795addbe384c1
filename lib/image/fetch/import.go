package fetch

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/image/unpack"
)

// imported is what the image of a stream without a name is called.
const imported = "standard-input"

// Import puts the image into the store that comes from r: an ACI, or an archive with one image, as
// docker-archive: and oci-archive: name them. It gets no name there, only its ID. The signature of
// an ACI is o.Signature.
func Import(ctx context.Context, s *store.Store, r io.Reader, o Options) (id string, err error) {
	o = o.withDefaults()
	if o.PullPolicy == Never {
		return "", errors.New("nothing is read when the pull policy is never")
	}
	err = s.Temporary(ctx, func(dir *os.File) error {
		ref := image.Reference{Kind: image.File, Path: filepath.Join(dir.Name(), imported)}
		f, err := os.OpenFile(ref.Path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := receive(ctx, f, r, o); err != nil {
			return err
		}
		isACI, err := holdsACI(f)
		switch {
		case err != nil:
			return err
		case isACI && o.Platform.foreign():
			return o.Platform.notForACIs()
		case isACI && !o.InsecureImage && o.Signature == "":
			return errors.New("no signature of it: give one by --signature=FILE after it, or use " +
				"--insecure-options=image to take it unsigned")
		case isACI:
			got, err := fromACI(ctx, s, ref, o)
			id = got.id
			return err
		case o.Signature != "":
			return errors.New("--signature: it is for ACIs")
		}
		ref.Kind = image.OCIArchive
		got, err := fromArchive(ctx, s, ref, o)
		id = got.id
		return err
	})
	return id, err
}

// receive copies a stream into a file, and does not wait for the stream when the context has ended.
func receive(ctx context.Context, f *os.File, r io.Reader, o Options) error {
	done := make(chan error, 1)
	go func() {
		v := &verifier{ctx: ctx, r: r, size: -1, max: o.MaxBytes}
		if o.Progress != nil {
			v.progress = func(got int64) { o.Progress(Progress{Blob: imported, Got: got, Size: v.size}) }
		}
		_, err := io.Copy(struct{ io.Writer }{f}, v)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// holdsACI reports whether a file is an ACI, or else an archive of images: by the name of the first
// entry that is in only one of them.
func holdsACI(f *os.File) (bool, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	plain, err := decompress(f)
	if err != nil {
		return false, fmt.Errorf("%w: %w", unpack.ErrArchive, err)
	}
	defer plain.Close()
	archive := tar.NewReader(plain)
	for range 2 { // the first may be the archive's root
		h, err := archive.Next()
		if err == io.EOF {
			return false, errors.New("an empty archive, or none")
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return false, fmt.Errorf("%w: %w", unpack.ErrArchive, err)
		}
		if name := path.Clean("/" + h.Name)[1:]; name != "" {
			return name == "manifest" || name == "rootfs" || strings.HasPrefix(name, "rootfs/"), nil
		}
	}
	return false, nil
}
