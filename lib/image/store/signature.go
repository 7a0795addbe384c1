package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
)

// Signature is the record that an image was verified. It is written after the image, and goes with
// it: an image without one was never verified. Whether it still counts is for package resolve to
// say.
type Signature struct {
	keystore.Proof
	// Below has, of an ACI, the images that it was laid on when it was verified, by ID. A zero
	// proof is of one that needs none, because an image above it names it by its ID.
	Below map[string]keystore.Proof `json:"below,omitempty"`
}

const signedDir = "signed" // below the record of an image

// signedAs is the key of the name that a signature of an image must be recorded under to count for
// a reference; "" if none can. The ID of an ACI vouches for the name in its manifest, whatever it
// was asked for by. Nothing in any other image says what its name is, so what counts is the very
// name that it was asked for by when it was verified.
func signedAs(img *Image, ref image.Reference) string {
	if _, err := os.Lstat(img.Config); errors.Is(err, fs.ErrNotExist) {
		own, err := image.AppcReference(img.Manifest.Name.String(), nil)
		if err != nil {
			return ""
		}
		return own.Key()
	}
	if ref.Kind != image.Appc {
		return ref.Key()
	}
	// what the manifest of such an image has for a name
	docker, err := image.ParseReference("docker://" + ref.App + ":" + ref.Version)
	if err != nil || docker.Host+"/"+docker.Repository != ref.App {
		return ""
	}
	return docker.Key()
}

// Signature reads the record that an image was verified for a reference. The error is or wraps
// ErrNotFound if it was not.
func (s *Store) Signature(img *Image, ref image.Reference) (Signature, error) {
	key := signedAs(img, ref)
	if key == "" {
		return Signature{}, ErrNotFound
	}
	return readSignature(s.path("blob", img.ID, signedDir, key))
}

func readSignature(file string) (sig Signature, err error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return sig, ErrNotFound
	}
	if err == nil {
		err = json.Unmarshal(text, &sig)
	}
	if err == nil && (sig.Name == "" || sig.Key == "") {
		err = errors.New("no key in it")
	}
	if err != nil {
		return Signature{}, fmt.Errorf("damaged: %s: %w", file, err)
	}
	return sig, nil
}

// Signatures are all that can be read of an image, by the reference's key.
func (s *Store) Signatures(id string) map[string]Signature {
	all := map[string]Signature{}
	root := s.path("blob", id, signedDir)
	_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil // what can be read is read
		}
		sig, err := readSignature(path)
		key, err2 := filepath.Rel(root, path)
		if err == nil && err2 == nil {
			all[key] = sig
		}
		return nil
	})
	return all
}

// SetSignature records that an image of the store was verified for a reference.
func (s *Store) SetSignature(id string, ref image.Reference, sig Signature) error {
	img, err := s.Image(id)
	if err != nil {
		return err
	}
	key := signedAs(img, ref)
	if key == "" {
		return fmt.Errorf("image %s: a signature as %s cannot be recorded", id, ref.Name())
	}
	if there, err := s.recorded(id); err != nil || !there {
		return err // it is just being removed
	}
	text, err := json.Marshal(sig)
	if err != nil {
		return err
	}
	file := s.path("blob", id, signedDir, key)
	if old, err := os.ReadFile(file); err == nil && string(old) == string(text)+"\n" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(file, append(text, '\n'), 0o600)
}

// signed reports whether an image was ever verified for a reference.
func (s *Store) signed(id string, ref image.Reference) bool {
	img, err := s.Image(id)
	if err != nil {
		return false
	}
	_, err = s.Signature(img, ref)
	return err == nil
}

// Named are the IDs of the images that have a name in their record, newest first: the one that it
// means, and of those that it meant before, the ones that were verified where the later one was
// not.
func (s *Store) Named(ref image.Reference) ([]string, error) {
	ids, err := s.idsIn("blob")
	if err != nil {
		return nil, err
	}
	return newest(ids, func(id string) (time.Time, bool) {
		info, err := os.Lstat(s.path("blob", id, "ref", ref.Key()))
		if err != nil {
			return time.Time{}, false
		}
		return info.ModTime(), true
	}), nil
}

// newest sorts what has a time by it, and leaves out the rest.
func newest(ids []string, when func(id string) (time.Time, bool)) []string {
	times := map[string]time.Time{}
	for _, id := range ids {
		if at, ok := when(id); ok {
			times[id] = at
		}
	}
	var found []string
	for _, id := range ids {
		if _, ok := times[id]; ok {
			found = append(found, id)
		}
	}
	slices.SortFunc(found, func(a, b string) int { return cmp.Or(times[b].Compare(times[a]), strings.Compare(a, b)) })
	return found
}
