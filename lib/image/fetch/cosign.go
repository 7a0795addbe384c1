package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
	"github.com/rkt-toolkit/rkt/lib/image/trust"
)

// maxSignatureManifests is how many manifests of signatures are looked at for one image.
const maxSignatureManifests = 32

// cosign looks for a signature of an image that counts, among those that are attached to it
// (cosign's specs/SIGNATURE_SPEC.md).
type cosign struct {
	keys  trust.Keystore
	image trust.Image
	get   blobs

	manifests, payloads int     // looked at
	why                 []error // that none counts yet
	by                  keystore.Proof
}

// counts reports whether one of the signatures that a manifest holds counts.
func (c *cosign) counts(ctx context.Context, manifest []byte) bool {
	if c.manifests++; c.manifests > maxSignatureManifests {
		return c.no(fmt.Errorf("more than %d manifests of signatures", maxSignatureManifests))
	}
	m, err := parseManifest(manifest)
	if err != nil {
		return c.no(err)
	}
	for _, layer := range m.Layers {
		signature, ok := layer.Annotations[trust.SignatureAnnotation]
		if !ok || layer.MediaType != trust.PayloadType {
			continue
		}
		if c.payloads++; c.payloads > trust.MaxImageSignatures {
			return c.no(fmt.Errorf("more than %d signatures", trust.MaxImageSignatures))
		}
		payload, err := c.get.read(ctx, layer, trust.MaxPayload)
		if err == nil {
			c.by, err = c.keys.CheckImage(c.image, trust.Signed{Payload: payload, Signature: signature})
		}
		if err == nil {
			return true
		}
		c.no(fmt.Errorf("signature %s: %w", layer.Digest, err))
	}
	return false
}

func (c *cosign) no(err error) bool {
	c.why = append(c.why, err)
	return false
}

// verifyRemote refuses an image in a registry that is signed by nobody who is trusted for its name.
// Signatures are at the tag sha256-DIGEST.sig, or refer to the image (distribution-spec, "Listing
// Referrers"); of its manifest, or of the index that it is in.
func verifyRemote(ctx context.Context, r account, puller *remote.Puller, options []remote.Option,
	repository name.Repository, c *cosign) error {
	for _, digest := range c.image.Digests {
		manifest, err := puller.Get(ctx, repository.Tag(strings.Replace(digest, ":", "-", 1)+".sig"))
		switch {
		case missing(err):
		case err != nil:
			c.no(r.error(err))
		case c.counts(ctx, manifest.Manifest):
			return nil
		}
	}
	for _, digest := range c.image.Digests {
		referrers, err := remote.Referrers(repository.Digest(digest), append(options, remote.WithContext(ctx))...)
		var index *v1.IndexManifest
		if err == nil {
			index, err = referrers.IndexManifest()
		}
		if missing(err) {
			continue
		}
		if err != nil {
			c.no(r.error(err))
			continue
		}
		for _, d := range index.Manifests {
			if d.ArtifactType != trust.SignatureArtifact || c.manifests >= maxSignatureManifests {
				continue
			}
			manifest, err := puller.Get(ctx, repository.Digest(d.Digest.String()))
			if err != nil {
				c.no(r.error(err))
			} else if c.counts(ctx, manifest.Manifest) {
				return nil
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return trust.Unsigned(c.why)
}

// missing tells of an error whether a registry has said that there is nothing.
func missing(err error) bool {
	answer, ok := errors.AsType[*transport.Error](err)
	return ok && answer.StatusCode == http.StatusNotFound
}

// signatureTag is a name of a layout's entry that is no image but what cosign attaches to one.
var signatureTag = regexp.MustCompile(`(^|:)sha256-[0-9a-f]{64}\.(sig|att|sbom)$`)

// attached reports whether an entry of a layout is not an image, but attached to one, as cosign
// save and copies of a registry have it.
func attached(d v1.Descriptor) bool {
	kind := d.Annotations["kind"]
	return signatureTag.MatchString(d.Annotations[refName]) ||
		signatureTag.MatchString(d.Annotations[containerdName]) ||
		kind == "dev.cosignproject.cosign/sigs" || kind == "dev.cosignproject.cosign/atts" ||
		d.ArtifactType == trust.SignatureArtifact
}

// verifyLayout refuses an image of a layout that is signed by nobody who is trusted for the name
// that it is signed as.
func verifyLayout(ctx context.Context, index v1.IndexManifest, c *cosign) error {
	for _, d := range index.Manifests {
		if !attached(d) || !d.MediaType.IsImage() || c.manifests >= maxSignatureManifests {
			continue
		}
		manifest, err := c.get.read(ctx, d, maxManifest)
		if err != nil {
			c.no(fmt.Errorf("signature %s: %w", d.Digest, err))
		} else if c.counts(ctx, manifest) {
			return nil
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return trust.Unsigned(c.why)
}
