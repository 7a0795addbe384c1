package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// What cosign 2.2 made of snyk/broker:4.169.1-github-com, and the key, as the image's makers have
// published them.
const (
	brokerPayload = `{"critical":{"identity":{"docker-reference":"index.docker.io/snyk/broker"},` +
		`"image":{"docker-manifest-digest":"` + brokerDigest + `"},` +
		`"type":"cosign container image signature"},` +
		`"optional":{"tag":"4.169.1-github-com"}}`
	brokerSignature = "MEYCIQCQAZzUWjnCEj/FfJqLe8aWhaxZqbsfvSsmI5tbG6nFgAIhALX21eKDyz9sjXt+U+UeFMMAr7Z2WOFwI5oZ1rW4vRAP"
	brokerDigest    = "sha256:a2ff856b180a532c3e31a90b9788cad567fa05d78c84bccc637de54c6f46ebf2"
	brokerKey       = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEd+2mEWyDk8Cmm0CD1Z8jcsXGaQ2i
sL8pxHrwoIH4DxmdyJ2nzwWaxYfsfZM6NoCRVsgYAVe5GBhFbr6hzcj5gw==
-----END PUBLIC KEY-----
`
)

func dockerName(t testing.TB, s string) image.Reference {
	t.Helper()
	r, err := image.ParseReference("docker://" + s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCosignsOwn(t *testing.T) {
	signed := Signed{[]byte(brokerPayload), brokerSignature}
	for _, c := range []struct {
		prefix, name string
		change       func(*Signed)
		digest, want string
	}{
		{prefix: "docker.io/snyk", name: "snyk/broker:4.169.1-github-com"},
		{prefix: "registry-1.docker.io/snyk/broker", name: "docker.io/snyk/broker"},
		{prefix: "", name: "index.docker.io/snyk/broker@" + brokerDigest},
		{prefix: "docker.io/snyk"}, // of a layout
		{prefix: "docker.io/snyk/brok", name: "snyk/broker", want: "no key is trusted for docker.io/snyk/broker"},
		{prefix: "docker.io/library", want: "no key is trusted for docker.io/snyk/broker"},
		{prefix: "", name: "snyk/other", want: "under another name, registry-1.docker.io/snyk/broker"},
		{prefix: "", name: "quay.io/snyk/broker", want: "under another name"},
		{prefix: "", name: "snyk/broker", digest: "sha256:" + strings.Repeat("0", 64), want: "of another image"},
		{prefix: "", name: "snyk/broker", change: func(s *Signed) {
			s.Payload = []byte(strings.Replace(brokerPayload, "github", "gitlab", 1))
		}, want: "by none of the 1 keys"},
		{prefix: "", name: "snyk/broker", change: func(s *Signed) { s.Signature = s.Signature[:90] },
			want: "signature: illegal base64"},
		{prefix: "", name: "snyk/broker", change: func(s *Signed) { s.Signature = s.Signature[:92] },
			want: "by none of the 1 keys"},
		{prefix: "", name: "snyk/broker", change: func(s *Signed) { s.Signature = "" }, want: "by none of the 1 keys"},
		{prefix: "", name: "snyk/broker", change: func(s *Signed) { s.Payload = s.Payload[:100] },
			want: "payload: unexpected end"},
		{prefix: "", name: "snyk/broker", change: func(s *Signed) { s.Payload = make([]byte, MaxPayload+1) },
			want: "larger than"},
		{prefix: "", name: "snyk/broker", change: func(s *Signed) {
			s.Payload = []byte(`{"critical":{"type":"atomic container signature"}}`)
		}, want: "payload of type"},
	} {
		dir := t.TempDir()
		k := oneKey(t, []byte(brokerKey))
		if _, err := Add(dir, c.prefix, k); err != nil {
			t.Fatal(err)
		}
		if _, err := Add(dir, "", publicKey(t, newEntity(t, "gpg", nil))); err != nil { // counts for ACIs only
			t.Fatal(err)
		}
		img := Image{Digests: []string{"sha256:1", brokerDigest}}
		if c.digest != "" {
			img.Digests = []string{c.digest}
		}
		if c.name != "" {
			img.Name = dockerName(t, c.name)
		}
		s := signed
		if c.change != nil {
			c.change(&s)
		}
		by, err := New(dir).CheckImage(img, s)
		if c.want == "" && (err != nil || by.Key != k.Fingerprint || by.Sum != keystore.Sum(k.Text)) ||
			!testkit.Says(err, c.want) {
			t.Errorf("%s %s: %+v, %v, want %q", c.prefix, c.name, by, err, c.want)
		}
	}
}

// Keys of each kind, their neighbours', and what a signature says of the name and tag.
func TestCheckImage(t *testing.T) {
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	edPublic, ed, err2 := ed25519.GenerateKey(rand.Reader)
	rsaKey, err3 := rsa.GenerateKey(rand.Reader, 2048)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	publics := []any{&p256.PublicKey, edPublic, &rsaKey.PublicKey}
	digest := "sha256:" + strings.Repeat("a", 64)
	for i, key := range []crypto.Signer{p256, ed, rsaKey} {
		for _, c := range []struct {
			reference, asked string
			keyOf            int
			want             string
		}{
			{"localhost:5000/team/app", "localhost:5000/team/app:1", i, ""},
			{"localhost:5000/team/app:1", "localhost:5000/team/app:1", i, ""},
			{"localhost:5000/team/app:1", "localhost:5000/team/app@" + digest, i, ""},
			{"localhost:5000/team/app@" + digest, "localhost:5000/team/app:1", i, ""},
			{"localhost:5000/team/app:1", "localhost:5000/team/app:2", i, "under another tag, 1"},
			{"localhost:5000/team/app:1", "localhost:5000/team/app", i, "under another tag, 1"},
			{"localhost:5001/team/app", "localhost:5000/team/app", i, "under another name"},
			{"", "localhost:5000/team/app", i, "docker-reference"},
			{"../x", "localhost:5000/team/app", i, "docker-reference"},
			{"localhost:5000/team/app", "localhost:5000/team/app:1", (i + 1) % 3,
				"none of the 1 keys ... localhost:5000/team/app"},
		} {
			payload := fmt.Appendf(nil,
				`{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":%q},`+
					`"optional":null}`,
				c.reference, digest, critical)
			sum, how := sha256.Sum256(payload), crypto.SHA256
			message := sum[:]
			if i == 1 {
				message, how = payload, 0
			}
			signature, err := key.Sign(rand.Reader, message, how)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if _, err := Add(dir, "localhost:5000", oneKey(t, pemOf(t, publics[c.keyOf]))); err != nil {
				t.Fatal(err)
			}
			_, err = New(dir).CheckImage(Image{dockerName(t, c.asked), []string{digest}},
				Signed{payload, base64.StdEncoding.EncodeToString(signature)})
			if !testkit.Says(err, c.want) {
				t.Errorf("%T %s as %s: %v, want %q", key, c.reference, c.asked, err, c.want)
			}
		}
	}
}

// Nothing but the very payload counts with a good signature, and nothing with another.
func FuzzPayload(f *testing.F) {
	dir := f.TempDir()
	if _, err := Add(dir, "", oneKey(f, []byte(brokerKey))); err != nil {
		f.Fatal(err)
	}
	s := New(dir)
	f.Add([]byte(brokerPayload), brokerSignature)
	f.Add([]byte(brokerPayload), "AAAA")
	f.Add([]byte(`{"critical":{}}`), brokerSignature)
	f.Add([]byte(strings.ToUpper(brokerPayload)), brokerSignature)
	f.Fuzz(func(t *testing.T, payload []byte, signature string) {
		_, err := s.CheckImage(Image{Digests: []string{brokerDigest}}, Signed{payload, signature})
		if err == nil && string(payload) != brokerPayload {
			t.Error("taken")
		}
	})
}
