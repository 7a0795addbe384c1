package main

import (
	"crypto"
	"crypto/ed25519"
	crand "crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// attach KEY HOST/NAME:TAG [OPTION=VALUE]... signs an image as cosign's specs/SIGNATURE_SPEC.md has
// it. Options: how=referrer instead of a tag, of=platform instead of what the tag names,
// reference=NAME and digest=DIGEST to say in the payload, junk=N signatures before it that are
// none, size=BYTES of the payload, as=HOST/NAME:TAG to attach it to another image.
func attach(args []string) error {
	options := map[string]string{}
	for _, o := range args[2:] {
		key, value, _ := strings.Cut(o, "=")
		options[key] = value
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	target, err := name.ParseReference(args[1])
	if err != nil {
		return err
	}
	subject, err := subjectOf(target, options["of"])
	if err != nil {
		return err
	}
	digest, reference := subject.Digest.String(), target.Context().Name()
	if d := options["digest"]; d != "" {
		digest = d
	}
	if r := options["reference"]; r != "" {
		reference = r
	}
	payload := fmt.Appendf(nil,
		`{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign `+
			`container image signature"},"optional":null}`,
		reference, digest)
	if size, _ := strconv.Atoi(options["size"]); size > len(payload) {
		payload = append(payload, []byte(strings.Repeat(" ", size-len(payload)))...)
	}
	sum := sha256.Sum256(payload)
	message, how := sum[:], crypto.Hash(crypto.SHA256)
	if _, ok := parsed.(ed25519.PrivateKey); ok {
		message, how = payload, 0
	}
	signature, err := parsed.(crypto.Signer).Sign(crand.Reader, message, how)
	if err != nil {
		return err
	}
	var layers []mutate.Addendum
	junk, _ := strconv.Atoi(options["junk"])
	for i := range junk {
		layers = append(layers, signatureLayer(fmt.Appendf(nil, "%d", i), "bm9uZQ=="))
	}
	layers = append(layers, signatureLayer(payload, base64.StdEncoding.EncodeToString(signature)))
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	if img, err = mutate.Append(img, layers...); err != nil {
		return err
	}
	if as := options["as"]; as != "" {
		if target, err = name.ParseReference(as); err != nil {
			return err
		}
		if subject, err = subjectOf(target, options["of"]); err != nil {
			return err
		}
	}
	if options["how"] == "referrer" {
		img = mutate.ConfigMediaType(img, "application/vnd.dev.cosign.artifact.sig.v1+json")
		img = mutate.Subject(img, *subject).(v1.Image)
		hash, err := img.Digest()
		if err != nil {
			return err
		}
		return remote.Write(target.Context().Digest(hash.String()), img)
	}
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	return remote.Write(target.Context().Tag("sha256-"+subject.Digest.Hex+".sig"), img)
}

func subjectOf(target name.Reference, of string) (*v1.Descriptor, error) {
	got, err := remote.Get(target)
	if err != nil || of != "platform" {
		return &got.Descriptor, err
	}
	index, err := got.ImageIndex()
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		if d.Platform.Architecture == runtime.GOARCH {
			return &d, nil
		}
	}
	return nil, errors.New("no image for this machine")
}

func signatureLayer(payload []byte, signature string) mutate.Addendum {
	return mutate.Addendum{
		Layer:       static.NewLayer(payload, "application/vnd.dev.cosign.simplesigning.v1+json"),
		Annotations: map[string]string{"dev.cosignproject.cosign/signature": signature},
	}
}

// pushindex DIR HOST/NAME:TAG pushes the image of a layout for this machine, in an index with one
// for another.
func pushindex(args []string) error {
	from, err := layout.ImageIndexFromPath(args[0])
	if err != nil {
		return err
	}
	m, err := from.IndexManifest()
	if err != nil {
		return err
	}
	img, err := from.Image(m.Manifests[0].Digest)
	if err != nil {
		return err
	}
	other, err := mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: "s390x", RootFS: rootFS(img)})
	if err != nil {
		return err
	}
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: other,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}},
		mutate.IndexAddendum{Add: img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}}})
	target, err := name.ParseReference(args[1])
	if err != nil {
		return err
	}
	return remote.WriteIndex(target, index)
}

func rootFS(img v1.Image) v1.RootFS {
	config, err := img.ConfigFile()
	if err != nil {
		return v1.RootFS{}
	}
	return config.RootFS
}

// memregistry ADDRESS LOG is a registry that lists referrers (distribution-spec 1.1), and writes
// down requests.
func memregistry(args []string) error {
	log, err := os.OpenFile(args[1], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	r := registry.New(registry.WithReferrersSupport(true), registry.Logger(stdlog.New(io.Discard, "", 0)))
	return http.ListenAndServe(args[0], http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintln(log, q.Method, q.URL.Path)
		r.ServeHTTP(w, q)
	}))
}
