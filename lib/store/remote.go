package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/appc/spec/schema"
	"github.com/google/uuid"
	"github.com/rkt-toolkit/rkt/lib/image"
)

// Remote is what a server said of an image that came from a URL, so that it need not send it again (RFC 9111).
type Remote struct {
	ID           string                `json:"id"`
	Manifest     *schema.ImageManifest `json:"manifest"`           // needed while what it depends on is fetched, and it is no image yet
	Verified     bool                  `json:"verified,omitempty"` // its signature was checked
	ETag         string                `json:"etag,omitempty"`
	LastModified string                `json:"lastModified,omitempty"`
	Expires      time.Time             `json:"expires,omitzero"` // until then the server need not be asked
}

// Remote gives what is known of a URL. The error is or wraps ErrNotFound if nothing is.
func (s *Store) Remote(url image.Reference) (Remote, error) {
	var r Remote
	text, err := os.ReadFile(s.remote(url))
	if errors.Is(err, fs.ErrNotExist) {
		return r, ErrNotFound
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err == nil && (!validID(r.ID) || r.Manifest == nil) {
		err = errors.New("no image in it")
	}
	if err != nil {
		return Remote{}, fmt.Errorf("damaged: %s: %w", s.remote(url), err)
	}
	return r, nil
}

// SetRemote remembers it.
func (s *Store) SetRemote(ctx context.Context, url image.Reference, r Remote) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	d, err := s.begin(ctx, "remote-"+uuid.NewString(), func() bool { return false })
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.path("remote"), 0o700); err != nil {
		return errors.Join(err, d.discard())
	}
	return d.write("remote", append(text, '\n'), s.remote(url))
}

func (s *Store) remote(url image.Reference) string { return s.path("remote", path.Base(url.Key())) }
