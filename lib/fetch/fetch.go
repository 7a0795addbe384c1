// Package fetch brings images into the store: from registries, OCI image layouts, archives and ACI files. Every byte is checked against
// its digest while it streams into a folder that becomes part of the store only when all is well.
package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/rkt-toolkit/rkt/lib/auth"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/store"
	"github.com/rkt-toolkit/rkt/lib/trust"
)

// PullPolicy says when the source of an image is asked.
type PullPolicy string

const (
	Never  PullPolicy = "never"  // only the store
	New    PullPolicy = "new"    // the store first; files and layouts on this machine are looked at all the same
	Update PullPolicy = "update" // always the source; what the store has is not fetched again
)

// Limits that images of good will do not reach; see Options.
const (
	defaultMaxBytes   = 64 << 30
	defaultMaxEntries = 2 << 20

	// A layer may unpack to maxRatio times its size, and always to freeBytes: deflate reaches 1000, programs about 3.
	maxRatio  = 200
	freeBytes = 1 << 30

	parallel = 3 // downloads of one image at a time
)

// Options say how to fetch. The zero value is strict, except that PullPolicy must be set.
type Options struct {
	PullPolicy    PullPolicy
	InsecureImage bool // an image without a signature is taken
	InsecureTLS   bool // any certificate is taken
	InsecureHTTP  bool // plain HTTP is spoken with any host, not only with this one

	Auth  *auth.Keychain // credentials for servers and registries; nil if there are none
	Certs []string       // folders with what TLS with a host needs (package certs)

	Keys trust.Keystore // by which images of registries and layouts are verified

	// Verify, if not nil, tells whether somebody who is trusted for an ACI of that name has signed it: nil if so. It is called for each
	// ACI that is read, before it is part of the store, unless InsecureImage says that nobody need have. signed is all of the ACI as it
	// was sent; it is to be read from its beginning to its end, at least the last time.
	Verify func(ctx context.Context, name string, signature []byte, signed io.ReadSeeker) error
	// HaveKey, if not nil, tells it as soon as the name is known whether there is somebody who is trusted for it.
	HaveKey func(ctx context.Context, name string) error
	// Mark, if not nil, tells who is trusted for ACIs of a name: what was verified before is looked at again when that has changed.
	Mark      func(name string) string
	Signature string // path of the signature of the ACI; "" means where one is by custom: path or URL with ".asc" added

	Platform Platform // what an image of a registry, layout or archive is to be for

	MaxBytes   int64 // of one unpacked layer or ACI; 0 means 64 GiB
	AnyRatio   bool  // so much may come of a few bytes
	MaxEntries int64 // of one layer or ACI; 0 means 2 Mi

	// Progress, if not nil, is called from several goroutines with how far a layer has come, at least when it begins and ends.
	Progress func(Progress)

	// Of tests: what firstDelay, bodyIdle and settled are, and how to reach a host.
	delay, idle, settled time.Duration
	dial                 func(ctx context.Context, network, address string) (net.Conn, error)
}

func (o Options) withDefaults() Options {
	o.MaxBytes = cmp.Or(o.MaxBytes, defaultMaxBytes)
	o.MaxEntries = cmp.Or(o.MaxEntries, defaultMaxEntries)
	o.delay, o.idle, o.settled = cmp.Or(o.delay, firstDelay), cmp.Or(o.idle, bodyIdle), cmp.Or(o.settled, settled)
	return o
}

// Progress is how far a layer or an ACI has come.
type Progress struct {
	Blob      string // digest of a layer, path or URL of an ACI
	Got, Size int64  // bytes read, bytes in all (-1 as long as nobody knows)
}

// Fetch makes sure that the store has the image that a reference names and returns its ID. On an error nothing of it is added to
// the store but whole layers. An error that wraps store.ErrNotFound says that the image is not in the store and was not to be
// looked for elsewhere. Errors do not repeat the reference. An image for another platform than this machine gets no name in the store.
func Fetch(ctx context.Context, s *store.Store, ref image.Reference, o Options) (string, error) {
	o = o.withDefaults()
	isACI := ref.Kind == image.File || ref.Kind == image.URL || ref.Kind == image.Appc
	foreign := o.Platform.foreign() && ref.Kind != image.ID
	switch {
	case foreign && isACI:
		return "", o.Platform.notForACIs()
	case foreign && o.PullPolicy == Never:
		return "", fmt.Errorf("--platform=%s: names in the store are of images for %s: give its ID", o.Platform, thisMachine())
	case foreign:
	case ref.Kind == image.ID || o.PullPolicy == Never || o.PullPolicy == New && !ref.Local():
		id, err := stored(s, ref)
		switch {
		case err == nil:
			return id, nil
		case ref.Kind == image.ID:
			return "", err
		case o.PullPolicy == Never && errors.Is(err, store.ErrNotFound):
			return "", fmt.Errorf("%w (pull policy is never)", err)
		case o.PullPolicy == Never:
			return "", err
		}
	}
	if isACI && !o.InsecureImage && o.Verify == nil {
		return "", errors.New("signatures cannot be verified here: use --insecure-options=image to run it unsigned")
	}
	if ref.Kind == image.Docker && !o.InsecureImage {
		if err := o.Keys.HaveImageKey(ref); err != nil {
			return "", err
		}
	}
	if !isACI && o.Signature != "" {
		return "", errors.New("--signature: it is for ACIs")
	}
	print := ""
	if !foreign {
		print = fingerprint(ref, o)
	}
	id, known := unchangedFile(ctx, s, ref, print, o)
	if known {
		return id, s.SetRef(ctx, ref, id)
	}
	var err error
	switch ref.Kind {
	case image.Docker:
		id, err = fromRegistry(ctx, s, ref, o)
	case image.OCILayout:
		id, err = fromLayout(ctx, s, ref, o)
	case image.OCIArchive, image.DockerArchive:
		id, err = fromArchive(ctx, s, ref, o)
	default:
		id, err = fromACI(ctx, s, ref, o)
	}
	if err == nil {
		err = rememberFile(ctx, s, ref, print, id, o)
	}
	if err != nil || foreign {
		return id, err
	}
	return id, s.SetRef(ctx, ref, id)
}

// stored finds a whole image in the store.
func stored(s *store.Store, ref image.Reference) (string, error) {
	id, err := s.Lookup(ref)
	if err != nil {
		return "", err
	}
	img, err := s.Image(id)
	if err != nil {
		return "", err
	}
	return img.ID, nil
}
