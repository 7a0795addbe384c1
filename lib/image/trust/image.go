package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
)

// Limits of signatures of images.
const (
	MaxPayload         = 64 << 10 // bytes
	MaxImageSignatures = 64       // of one image
)

// What cosign's signatures are (its specs/SIGNATURE_SPEC.md).
const (
	PayloadType         = "application/vnd.dev.cosign.simplesigning.v1+json" // media type of a payload
	SignatureAnnotation = "dev.cosignproject.cosign/signature"
	SignatureArtifact   = "application/vnd.dev.cosign.artifact.sig.v1+json" // artifact type of a referrer

	critical = "cosign container image signature"
)

// Signed is a payload and its signature as cosign attaches them to an image.
type Signed struct {
	Payload   []byte // simple signing, JSON (containers-signature(5))
	Signature string // base64
}

// Image is what a signature must be of.
type Image struct {
	Name    image.Reference // as it was asked for in a registry; the zero value if a signature may say what its name is
	Digests []string        // "sha256:…" of its manifest, and of the index that it was chosen from
}

// registryName is the name that keys for an image in a registry are trusted for.
func registryName(r image.Reference) string { return r.Host + "/" + r.Repository }

// HaveImageKey reports whether some key is trusted for images in registries of that name; the error
// is a *NoKey if none is.
func (s Keystore) HaveImageKey(r image.Reference) error {
	_, err := s.imageKeys(r)
	return err
}

func (s Keystore) imageKeys(r image.Reference) ([]Key, error) {
	keys, err := s.Keys(registryName(r))
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, Key.OpenPGP)
	if len(keys) == 0 {
		return nil, &NoKey{Name: strings.TrimPrefix(registryName(r), "registry-1."), PEM: true}
	}
	return keys, nil
}

// CheckImage verifies a signature of an image by a key that is trusted for its name.
func (s Keystore) CheckImage(img Image, signed Signed) (keystore.Proof, error) {
	p, err := readPayload(img, signed)
	if err != nil {
		return keystore.Proof{}, err
	}
	keys, err := s.imageKeys(p.name)
	if err != nil {
		return keystore.Proof{}, err
	}
	for _, k := range keys {
		if k.signed(signed.Payload, p.signature) {
			return keystore.Proof{Name: registryName(p.name), Key: k.Fingerprint, Sum: keystore.Sum(k.Text)}, nil
		}
	}
	return keystore.Proof{}, fmt.Errorf("by none of the %d keys that are trusted for %s", len(keys),
		registryName(p.name))
}

// claim is what a signature says, whoever made it.
type claim struct {
	name      image.Reference
	signature []byte
}

// readPayload reads what a signature says, and refuses it unless it is of that image.
func readPayload(img Image, signed Signed) (c claim, err error) {
	if len(signed.Payload) > MaxPayload || len(signed.Signature) > MaxPayload {
		return c, fmt.Errorf("larger than %d bytes", MaxPayload)
	}
	if c.signature, err = base64.StdEncoding.DecodeString(strings.TrimSpace(signed.Signature)); err != nil {
		return c, fmt.Errorf("signature: %w", err)
	}
	var p struct {
		Critical struct {
			Identity struct {
				Reference string `json:"docker-reference"`
			} `json:"identity"`
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
			Type string `json:"type"`
		} `json:"critical"`
	}
	if err := json.Unmarshal(signed.Payload, &p); err != nil {
		return c, fmt.Errorf("payload: %w", err)
	}
	if p.Critical.Type != critical {
		return c, fmt.Errorf("payload of type %.60q, and not %q", p.Critical.Type, critical)
	}
	if !slices.Contains(img.Digests, p.Critical.Image.Digest) {
		return c, fmt.Errorf("it is of another image, %.80q", p.Critical.Image.Digest)
	}
	c.name, err = img.signedAs(p.Critical.Identity.Reference)
	return c, err
}

// signedAs is the name of an image that was signed as reference. If it was asked for by name, it
// must be the same repository, and the same tag if both say one.
func (img Image) signedAs(reference string) (image.Reference, error) {
	r, err := image.ParseReference("docker://" + reference)
	if err != nil {
		return r, fmt.Errorf("payload: docker-reference %.300q: %w", reference, err)
	}
	asked := img.Name
	if asked.Kind == "" {
		return r, nil
	}
	if registryName(r) != registryName(asked) {
		return r, fmt.Errorf("it is of the image under another name, %s", registryName(r))
	}
	tagged := strings.LastIndexByte(reference, ':') > strings.LastIndexByte(reference, '/') && r.Digest == ""
	if tagged && asked.Tag != "" && r.Tag != asked.Tag {
		return r, fmt.Errorf("it is of the image under another tag, %s", r.Tag)
	}
	return asked, nil
}

// signed reports whether a key in PEM made a signature, as cosign makes them: of the payload's
// SHA-256, except for Ed25519.
func (k Key) signed(payload, signature []byte) bool {
	sum := sha256.Sum256(payload)
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, sum[:], signature)
	case ed25519.PublicKey:
		return ed25519.Verify(public, payload, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil
	}
	return false
}

// Unsigned is the error of an image of which no signature counts, with why the others do not.
func Unsigned(why []error) error {
	if len(why) == 0 {
		return errors.New("no signature is attached to it: use --insecure-options=image to run it unsigned")
	}
	all := why[0]
	for _, err := range why[1:min(len(why), 3)] {
		all = fmt.Errorf("%w; %w", all, err)
	}
	return fmt.Errorf("no signature of it counts: %w", all)
}
