// Package fetch brings images into the store: from registries, OCI image layouts, archives and ACI
// files. Every byte is checked against its digest while it streams into a directory that becomes
// part of the store only when all is well.
package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/auth"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
	"github.com/rkt-toolkit/rkt/lib/image/resolve"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/image/trust"
)

// PullPolicy says when the source of an image is asked.
type PullPolicy string

const (
	Never  PullPolicy = "never"  // only the store; an ACI file that is named is read all the same
	New    PullPolicy = "new"    // the store first; files and layouts on this machine are looked at all the same
	Update PullPolicy = "update" // always the source; what the store has is not fetched again
)

// Limits that images of good will do not reach; see Options.
const (
	defaultMaxBytes   = 64 << 30
	defaultMaxEntries = 2 << 20

	// A layer may unpack to maxRatio times its size, and always to freeBytes: deflate reaches 1000,
	// programs about 3.
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
	Certs []string       // directories with what TLS with a host needs (package certs)

	Keys trust.Keystore // by which images of registries and layouts are verified

	// Verify, if not nil, returns the proof that somebody who is trusted for an ACI of that name
	// has signed it. It is called for each ACI that is read, before it is part of the store, unless
	// InsecureImage says that nobody need have. signed is all of the ACI as it was sent; it is to
	// be read from its beginning to its end, at least the last time.
	Verify func(ctx context.Context, name string, signature []byte, signed io.ReadSeeker) (keystore.Proof, error)
	// HaveKey, if not nil, tells it as soon as the name is known whether there is somebody who is
	// trusted for it.
	HaveKey   func(ctx context.Context, name string) error
	Signature string // path of the signature of the ACI; "" means where one is by custom: path or URL with ".asc" added

	Platform Platform // what an image of a registry, layout or archive is to be for

	MaxBytes   int64 // of one unpacked layer or ACI; 0 means 64 GiB
	AnyRatio   bool  // so much may come of a few bytes
	MaxEntries int64 // of one layer or ACI; 0 means 2 Mi

	// Progress, if not nil, is called from several goroutines with how far a layer has come, at
	// least when it begins and ends.
	Progress func(Progress)

	// Log, if not nil, is told where an image comes from, in the words that rkt 1.30 had.
	Log func(format string, args ...any)

	// Of tests: what firstDelay, bodyIdle and settled are, and how to reach a host.
	delay, idle, settled time.Duration
	good                 func(keystore.Proof) error // what Keys say of a proof
	dial                 func(ctx context.Context, network, address string) (net.Conn, error)
}

func (o Options) withDefaults() Options {
	o.MaxBytes = cmp.Or(o.MaxBytes, defaultMaxBytes)
	o.MaxEntries = cmp.Or(o.MaxEntries, defaultMaxEntries)
	o.delay, o.idle, o.settled = cmp.Or(o.delay, firstDelay), cmp.Or(o.idle, bodyIdle), cmp.Or(o.settled, settled)
	return o
}

func (o Options) log(format string, args ...any) {
	if o.Log != nil {
		o.Log(format, args...)
	}
}

// inStore tells the log that an image need not be fetched.
func (o Options) inStore(ref image.Reference) {
	if source := ref.Source(); ref.Kind != image.ID {
		o.log("using image from local store for %s %s", strings.Replace(source, "URL", "url", 1),
			auth.PlainURL(ref.Typed()))
	}
}

// Progress is how far a layer or an ACI has come.
type Progress struct {
	Blob      string // digest of a layer, path or URL of an ACI
	Got, Size int64  // bytes read, bytes in all (-1 as long as nobody knows)
}

// resolver finds what the store has. Where images must be verified, that is only what was, and
// still counts.
func (o Options) resolver(s *store.Store) resolve.Resolver {
	switch {
	case o.InsecureImage:
		return resolve.Resolver{Store: s}
	case o.good != nil:
		return resolve.Resolver{Store: s, Good: o.good}
	}
	return resolve.Resolver{Store: s, Good: keystore.Keystore(o.Keys).Good}
}

// fetched is an image that is in the store now. by says who has signed it; nil if nobody was asked,
// or if that is recorded already.
type fetched struct {
	id string
	by *keystore.Proof
}

// here reports whether a reference names an ACI file that is there. It is read whatever the pull
// policy says, as rkt did: no other machine is asked, and what the store has of that name may be
// older.
func here(ref image.Reference) bool {
	if ref.Kind != image.File {
		return false
	}
	_, err := os.Stat(ref.Path)
	return err == nil
}

// Fetch makes sure that the store has the image that a reference names and returns its ID. On an
// error nothing of it is added to the store but whole layers. An error that wraps store.ErrNotFound
// says that the image is not in the store and was not to be looked for elsewhere. Errors do not
// repeat the reference. An image for another platform than this machine gets no name in the store.
//
// That an image was verified is recorded when it is whole in the store, and before it gets its
// name: however far a fetch comes, nothing looks verified that is not.
func Fetch(ctx context.Context, s *store.Store, ref image.Reference, o Options) (string, error) {
	o = o.withDefaults()
	foreign := o.Platform.foreign() && ref.Kind != image.ID
	if foreign {
		if err := o.foreignly(ref); err != nil {
			return "", err
		}
	}
	var unverified error // why what the store has of that name does not do
	if !foreign && o.storeFirst(ref) {
		var id string
		var err error
		if id, unverified, err = fromStore(ctx, s, ref, o); id != "" || err != nil {
			return id, err
		}
	}
	if err := o.check(ref); err != nil {
		return "", err
	}
	switch {
	case ref.Local():
		o.log("using image from file %s", ref.Path)
	case ref.Kind == image.Docker:
		o.log("remote fetching from URL %q", ref.Typed())
	}
	print := ""
	if !foreign {
		print = fingerprint(ref, o)
	}
	id, known := unchangedFile(s, ref, print, o)
	if known {
		return id, s.SetRef(ctx, ref, id)
	}
	got, err := fromSource(ctx, s, ref, o)
	if err != nil && unverified != nil {
		return "", fmt.Errorf("%w (it is %w)", err, unverified)
	}
	if err == nil {
		err = rememberFile(ctx, s, ref, print, got.id, o)
	}
	if err != nil || foreign {
		return got.id, err
	}
	if got.by != nil {
		if err := s.SetSignature(got.id, ref, store.Signature{Proof: *got.by}); err != nil {
			return "", err
		}
	}
	return got.id, s.SetRef(ctx, ref, got.id)
}

// isACI reports whether a reference names an ACI, and nothing else.
func isACI(ref image.Reference) bool {
	return ref.Kind == image.File || ref.Kind == image.URL || ref.Kind == image.Appc
}

// storeFirst reports whether the store is asked before the source, or alone.
func (o Options) storeFirst(ref image.Reference) bool {
	return ref.Kind == image.ID || o.PullPolicy != Update && !here(ref) && (o.PullPolicy == Never || !ref.Local())
}

// foreignly refuses what cannot be had for another platform than this machine.
func (o Options) foreignly(ref image.Reference) error {
	switch {
	case isACI(ref):
		return o.Platform.notForACIs()
	case o.PullPolicy == Never && o.storeFirst(ref):
		return fmt.Errorf("--platform=%s: names in the store are of images for %s: give its ID", o.Platform,
			thisMachine())
	}
	return nil
}

// fromStore looks for an image in the store. Without an ID and an error the source is to be asked;
// unverified is then why an image that the store has of that name does not do, if there is one.
func fromStore(ctx context.Context, s *store.Store, ref image.Reference, o Options) (id string, unverified, err error) {
	img, err := o.resolver(s).Lookup(ref)
	if errors.Is(err, resolve.ErrUnverified) {
		unverified = err
		if again, err2 := relay(ctx, s, ref, o); err2 == nil {
			img, err = again, nil
		}
	}
	switch {
	case err == nil:
		o.inStore(ref)
		return img.ID, nil, nil
	case ref.Kind == image.ID && unverified != nil:
		return "", nil, fmt.Errorf("%w: use --insecure-options=image to run it all the same", err)
	case ref.Kind == image.ID:
		return "", nil, err
	case o.PullPolicy == Never && errors.Is(err, store.ErrNotFound):
		return "", nil, fmt.Errorf("%w (pull policy is never)", err)
	case o.PullPolicy == Never && unverified != nil:
		return "", nil,
			fmt.Errorf("%w (pull policy is never): \"rkt fetch\" verifies it, or use --insecure-options=image to run "+
				"it unsigned", err)
	case o.PullPolicy == Never:
		return "", nil, err
	}
	return "", unverified, nil
}

// check refuses what could not be verified, before anybody is asked for it.
func (o Options) check(ref image.Reference) error {
	switch {
	case isACI(ref) && !o.InsecureImage && o.Verify == nil:
		return errors.New("signatures cannot be verified here: use --insecure-options=image to run it unsigned")
	case !isACI(ref) && o.Signature != "":
		return errors.New("--signature: it is for ACIs")
	case ref.Kind == image.Docker && !o.InsecureImage:
		return o.Keys.HaveImageKey(ref)
	}
	return nil
}

// fromSource fetches an image from where its reference says.
func fromSource(ctx context.Context, s *store.Store, ref image.Reference, o Options) (fetched, error) {
	switch ref.Kind {
	case image.Docker:
		return fromRegistry(ctx, s, ref, o)
	case image.OCILayout:
		return fromLayout(ctx, s, ref, o)
	case image.OCIArchive, image.DockerArchive:
		return fromArchive(ctx, s, ref, o)
	}
	return fromACI(ctx, s, ref, o)
}
