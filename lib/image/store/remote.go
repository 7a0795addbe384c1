package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
)

// Remote is what is known of where an image came from, so that it need not be read again: what the
// server of a URL said (RFC 9111), the digest that a registry has for a name, or what tells that a
// file is the same.
type Remote struct {
	ID string `json:"id"`
	// needed while what it depends on is fetched, and it is no image yet
	Manifest *schema.ImageManifest `json:"manifest"`
	Proof    *keystore.Proof       `json:"proof,omitempty"` // if its signature was checked
	File     string                `json:"file,omitempty"`
	// of the manifest, or of the index that it was chosen from
	Digest       string    `json:"digest,omitempty"`
	Challenge    string    `json:"challenge,omitempty"` // how a registry wants a login (RFC 9110, 11.6.1), heard by TLS
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"lastModified,omitempty"`
	Expires      time.Time `json:"expires,omitzero"` // until then the server need not be asked
}

// Remote gives what is known of a URL, file or name in a registry. The error is or wraps
// ErrNotFound if nothing is.
func (s *Store) Remote(ref image.Reference) (Remote, error) {
	var r Remote
	text, err := os.ReadFile(s.remote(ref))
	if errors.Is(err, fs.ErrNotExist) {
		return r, ErrNotFound
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err == nil && (!ValidID(r.ID) || r.Manifest == nil) {
		err = errors.New("no image in it")
	}
	if err != nil {
		return Remote{}, fmt.Errorf("damaged: %s: %w", s.remote(ref), err)
	}
	return r, nil
}

// SetRemote remembers it.
func (s *Store) SetRemote(ctx context.Context, ref image.Reference, r Remote) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	d, err := s.begin(ctx, "remote-"+rand.Text(), func() bool { return false })
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.remote(ref)), 0o700); err != nil {
		return errors.Join(err, d.discard())
	}
	return d.write("remote", append(text, '\n'), s.remote(ref))
}

func (s *Store) remote(ref image.Reference) string { return s.path("remote", ref.Key()) }
