package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/image/auth"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
)

// maxSignature bounds a signature, bytes. An armoured one has about 800.
const maxSignature = 1 << 20

// proof is what shows who vouches for an ACI. A nil one is of an ACI for which nobody need.
type proof struct {
	verify    func(ctx context.Context, name string, signature []byte, signed io.ReadSeeker) (keystore.Proof, error)
	signature []byte
	later     func(context.Context) ([]byte, error) // gets the signature, if the server had none yet
	signed    io.ReaderAt
	hash      hash.Hash // of what has been unpacked, which must be what is signed
}

// verifies reports whether ACIs must be signed.
func (f *acis) verifies() bool { return !f.options.InsecureImage }

// proof gets the signature of an ACI from a path or a URL, before the ACI itself.
func (f *acis) proof(ctx context.Context, at string) (*proof, error) {
	if !f.verifies() {
		return nil, nil
	}
	p := &proof{verify: f.options.Verify, hash: sha256.New()}
	var err error
	p.signature, err = f.readSignature(ctx, at)
	if errors.Is(err, errDeferred) {
		p.later = func(ctx context.Context) ([]byte, error) { return f.readSignature(ctx, at) }
		return p, nil
	}
	return p, err
}

// errDeferred says that a server makes the signature only now: rkt asked it again after the image.
var errDeferred = errors.New("the server has no signature yet (bad HTTP status code: 202 Accepted)")

// readSignature reads a signature from a path or a URL.
func (f *acis) readSignature(ctx context.Context, at string) (signature []byte, err error) {
	r, err := f.openSignature(ctx, at)
	if err == nil {
		defer r.Close()
		signature, err = readSmall(&verifier{ctx: ctx, r: r, size: -1}, maxSignature)
	}
	if err != nil {
		doing := "opening signature file" // rkt's words, for scripts
		if onServer(at) {
			doing = "downloading the signature file"
		}
		return nil, fmt.Errorf("no signature of it (error %s: %w): use --insecure-options=image to run it unsigned",
			doing, err)
	}
	return signature, nil
}

// onServer reports whether a signature is on a server, and not in a file.
func onServer(at string) bool {
	return strings.HasPrefix(at, "https://") || strings.HasPrefix(at, "http://")
}

func (f *acis) openSignature(ctx context.Context, at string) (io.ReadCloser, error) {
	if !onServer(at) {
		return openRegular(at)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "rkt")
	answer, err := f.client.Do(r)
	if err != nil {
		return nil, auth.HideQuery(err)
	}
	if answer.StatusCode == http.StatusAccepted {
		drop(answer)
		return nil, errDeferred
	}
	if answer.StatusCode != http.StatusOK {
		drop(answer)
		return nil, fmt.Errorf("%s: bad HTTP status code: %s", auth.PlainURL(at), answer.Status)
	}
	return answer.Body, nil
}

// beside is where the signature of a URL is by custom.
func beside(aci string) string {
	u, err := url.Parse(aci)
	if err != nil {
		return aci + ".asc"
	}
	u.Path += ".asc"
	if u.RawPath != "" {
		u.RawPath += ".asc"
	}
	return u.String()
}

// of tells where all of the ACI is once v has been read, and has v hash what it reads.
func (p *proof) of(signed io.ReaderAt, v *verifier) {
	if p != nil {
		p.signed = signed
		p.hash.Reset()
		v.r = io.TeeReader(v.r, p.hash)
	}
}

// check refuses an ACI of that name and size that nobody vouches for, and returns who does.
func (p *proof) check(ctx context.Context, name string, size int64) (*keystore.Proof, error) {
	if p == nil {
		return nil, nil
	}
	if p.later != nil {
		var err error
		if p.signature, err = p.later(ctx); err != nil {
			return nil, err
		}
	}
	r := &passes{ctx: ctx, r: io.NewSectionReader(p.signed, 0, size), hash: sha256.New()}
	by, err := p.verify(ctx, name, p.signature, r)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(r.last, p.hash.Sum(nil)) {
		return nil, errors.New("it was changed while it was read")
	}
	return &by, nil
}

// passes hashes what is read from the beginning to the end, each time.
type passes struct {
	ctx  context.Context
	r    *io.SectionReader
	hash hash.Hash
	at   int64
	last []byte // of the last time
}

func (p *passes) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.r.Read(b)
	p.hash.Write(b[:n])
	if p.at += int64(n); err == io.EOF && p.at == p.r.Size() {
		p.last = p.hash.Sum(nil)
	}
	return n, err
}

func (p *passes) Seek(offset int64, whence int) (int64, error) {
	at, err := p.r.Seek(offset, whence)
	p.at = at
	p.hash.Reset() // what is read from elsewhere than the beginning is not all
	return at, err
}
