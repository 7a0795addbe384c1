// Package resolve decides which image of the store a name means. Anybody can fetch an image that
// claims a name, so where images must be verified, a name means only one that was verified for it,
// by a key that is still trusted (package keystore), and so for all that the image depends on. An
// ID names content and nothing else: what it is the digest of needs no signature.
package resolve

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
	"github.com/rkt-toolkit/rkt/lib/image/part"
	"github.com/rkt-toolkit/rkt/lib/image/store"
)

// ErrUnverified is the error of a name that only images in the store have that do not count as
// verified for it.
var ErrUnverified = errors.New("in the store, but not verified")

var errUnchecked = errors.New("no signature of it was checked")

// Resolver looks for images in a store.
type Resolver struct {
	Store *store.Store
	// Good returns why a proof does not count any more, nil if it does. A nil one is for callers
	// that take any image.
	Good func(keystore.Proof) error
}

// New makes one that takes verified images only, by the keys in these configuration directories,
// weakest first; or any image.
func New(s *store.Store, anyImage bool, configs ...string) Resolver {
	if anyImage {
		return Resolver{Store: s}
	}
	return Resolver{s, keystore.New(configs...).Good}
}

// Lookup finds the whole image that a reference means. The error is or wraps store.ErrNotFound if
// the store has none of that name, and ErrUnverified if it has, but none that may be used.
func (r Resolver) Lookup(ref image.Reference) (*store.Image, error) {
	return r.lookup(ref, r.Check)
}

// Own finds the image that a reference means, as Lookup does, except for what that image lies on:
// whoever calls it lays it anew.
func (r Resolver) Own(ref image.Reference) (*store.Image, error) {
	return r.lookup(ref, r.checkOwn)
}

func (r Resolver) checkOwn(img *store.Image, ref image.Reference) error {
	_, err := r.Proof(img, ref)
	return err
}

// lookup takes the image that has the name if it passes a check, else the newest that passes of
// those that had the name, and of those that the name describes.
func (r Resolver) lookup(ref image.Reference, check func(*store.Image, image.Reference) error) (*store.Image, error) {
	id, err := r.Store.Lookup(ref)
	if errors.Is(err, store.ErrNotFound) && ref.Kind == image.Appc {
		id, err = r.Store.Find(ref)
	}
	var img *store.Image
	if err == nil {
		img, err = r.Store.Image(id)
	}
	if r.Good == nil {
		return img, err
	}
	if err == nil {
		if why := check(img, ref); why != nil {
			err = fmt.Errorf("%w: %w", ErrUnverified, why)
		}
	}
	if err == nil || ref.Kind == image.ID {
		return img, err
	}
	others, err2 := r.others(ref)
	if err2 != nil {
		return nil, err2
	}
	for _, id := range others {
		img, err2 := r.Store.Image(id)
		if err2 != nil {
			continue
		}
		why := check(img, ref)
		if why == nil {
			return img, nil
		}
		if errors.Is(err, errUnchecked) { // why one that was verified is not any more says more
			err = fmt.Errorf("%w: %w", ErrUnverified, why)
		}
	}
	return nil, err
}

func (r Resolver) others(ref image.Reference) ([]string, error) {
	all, err := r.Store.Named(ref)
	if err != nil || ref.Kind != image.Appc {
		return all, err
	}
	more, err := r.Store.Described(ref)
	return append(all, more...), err
}

// Proof gives the record that an image was verified for a reference, if it still counts.
func (r Resolver) Proof(img *store.Image, ref image.Reference) (store.Signature, error) {
	sig, err := r.Store.Signature(img, ref)
	if errors.Is(err, store.ErrNotFound) {
		return sig, errUnchecked
	}
	if err == nil {
		err = r.Good(sig.Proof)
	}
	return sig, err
}

// Check returns why an image may not be used for a reference, or nil if it may: it was verified for
// it, and so was each image that it lies on, unless the manifest of one that may be used names that
// by its ID.
func (r Resolver) Check(img *store.Image, ref image.Reference) error {
	if r.Good == nil {
		return nil
	}
	if ref.Kind == image.ID {
		return r.checkID(img, ref)
	}
	sig, err := r.Proof(img, ref)
	if err != nil {
		return err
	}
	return r.checkBelow(img, sig.Below)
}

// checkID looks at what the ID of an image does not vouch for: what an ACI depends on by name.
func (r Resolver) checkID(img *store.Image, ref image.Reference) error {
	sig, err := r.Store.Signature(img, ref)
	if errors.Is(err, store.ErrNotFound) {
		sig.Below = r.pinned(img, map[string]keystore.Proof{})
	} else if err != nil {
		return err
	}
	return r.checkBelow(img, sig.Below)
}

// pinned adds the images in the store that an image names by their IDs, and those that they name
// so.
func (r Resolver) pinned(img *store.Image, all map[string]keystore.Proof) map[string]keystore.Proof {
	for _, d := range img.Manifest.Dependencies {
		if d.ImageID == nil || d.ImageID.Empty() {
			continue
		}
		id := d.ImageID.String()
		if _, done := all[id]; done {
			continue
		}
		all[id] = keystore.Proof{}
		if below, err := r.Store.Image(id); err == nil {
			r.pinned(below, all)
		}
	}
	return all
}

func (r Resolver) checkBelow(img *store.Image, below map[string]keystore.Proof) error {
	ids, err := r.layersOf(img)
	if err != nil {
		return err
	}
	for _, id := range ids {
		proof, known := below[id]
		if !known {
			err = errUnchecked
		} else if proof != (keystore.Proof{}) {
			err = r.Good(proof)
		}
		if err != nil {
			return fmt.Errorf("dependency %s: %w", r.name(id), err)
		}
	}
	return nil
}

// layersOf are the IDs of the ACIs that an image lies on.
func (r Resolver) layersOf(img *store.Image) ([]string, error) {
	var ids []string
	for _, layer := range img.Layers {
		id := store.LayerName(layer)
		if strings.HasPrefix(id, "sha256-") { // the image's config has its digest
			continue
		}
		if !store.ValidID(id) {
			text, err := os.ReadFile(r.Store.LayerFile(id, part.File))
			if err != nil {
				return nil, err
			}
			p, err := part.Parse(text)
			if err != nil {
				return nil, fmt.Errorf("layer %s: %w", id, err)
			}
			if id = p.ID; !store.ValidID(id) { // of the same kind
				continue
			}
		}
		if id != img.ID && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// name is how to call a dependency in an error.
func (r Resolver) name(id string) string {
	if img, err := r.Store.Image(id); err == nil {
		return img.Manifest.Name.String()
	}
	return id[:len("sha512-")+12]
}

// Verified gives the proofs of an image that still count, of whatever name, sorted by it. There is
// none if something that it lies on is not verified.
func (r Resolver) Verified(img *store.Image) []keystore.Proof {
	var all []keystore.Proof
	for _, sig := range r.Store.Signatures(img.ID) {
		if r.Good(sig.Proof) == nil && r.checkBelow(img, sig.Below) == nil {
			all = append(all, sig.Proof)
		}
	}
	slices.SortFunc(all, func(a, b keystore.Proof) int { return strings.Compare(a.Name+a.Key, b.Name+b.Key) })
	return slices.Compact(all)
}
