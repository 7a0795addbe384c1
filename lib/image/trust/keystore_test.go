package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func newEntity(t testing.TB, name string, config *packet.Config) *openpgp.Entity {
	t.Helper()
	c := packet.Config{}
	if config != nil {
		c = *config
	}
	c.Algorithm = packet.PubKeyAlgoEdDSA // made in no time
	e, err := openpgp.NewEntity(name, "", name+"@example.com", &c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func publicKey(t testing.TB, e *openpgp.Entity) Key {
	t.Helper()
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return oneKey(t, b.Bytes())
}

func oneKey(t testing.TB, text []byte) Key {
	t.Helper()
	keys, err := ParseKeys(text)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	return keys[0]
}

func pemOf(t testing.TB, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func sign(t testing.TB, e *openpgp.Entity, data string, config *packet.Config) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := openpgp.DetachSign(&b, e, strings.NewReader(data), config); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func armored(t testing.TB, kind string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, kind, nil)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Which key is trusted for which name: rkt's layout, with a third directory that wins.
func TestKeys(t *testing.T) {
	a, b, c := publicKey(t, newEntity(t, "a", nil)), publicKey(t, newEntity(t, "b", nil)),
		publicKey(t, newEntity(t, "c", nil))
	names := map[string]string{a.Fingerprint: "a", b.Fingerprint: "b", c.Fingerprint: "c"}
	keys := map[string]Key{"a": a, "b": b, "c": c, "": {}}
	for _, test := range []struct {
		files string // LAYER:FOLDER=KEY; an empty key masks the one after the slash
		want  map[string]string
	}{
		{"", map[string]string{"example.com/app": ""}},
		{"system:root.d=a", map[string]string{"example.com/app": "a", "localhost:5000/x": "a"}},
		{"local:prefix.d/example.com/team=a", map[string]string{
			"example.com/team": "a", "example.com/team/app": "a", "example.com/teams": "", "example.com/tea": "",
			"example.com": "", "other.com/team": ""}},
		{"local:prefix.d/example.com=a local:prefix.d/example.com/app=b user:prefix.d/other.com=c", map[string]string{
			"example.com": "a", "example.com/app": "ab", "other.com/x": "c"}},
		{"system:root.d=a local:root.d=/a", map[string]string{"example.com/app": ""}},
		{"local:root.d=a system:root.d=/a", map[string]string{"example.com/app": "a"}},
		{"system:prefix.d/example.com=a local:prefix.d/example.com=/a", map[string]string{"example.com/app": ""}},
		{"system:prefix.d/example.com=a local:prefix.d/example.com/app=/a", map[string]string{"example.com/app": "",
			"example.com/other": "a"}},
		{"system:root.d=a local:root.d=b user:prefix.d/example.com=/a user:prefix.d/example.com=c",
			map[string]string{"example.com/app": "bc", "x.org/a": "ab"}},
		{"local:prefix.d/docker.io/library/redis=a", map[string]string{"registry-1.docker.io/library/redis": "a",
			"registry-1.docker.io/library/red": ""}},
		{"local:prefix.d/localhost:5000/team=a", map[string]string{"localhost:5000/team/app": "a",
			"localhost:5001/team/app": "", "localhost/team/app": ""}},
		{"local:prefix.d/Example.com=a", map[string]string{"EXAMPLE.com/app": "a"}},
	} {
		dir := t.TempDir()
		for _, file := range strings.Fields(test.files) {
			layer, rest, _ := strings.Cut(file, ":")
			directory, key, _ := strings.Cut(rest, "=")
			if masked, ok := strings.CutPrefix(key, "/"); ok {
				directory = filepath.Join(dir, layer, "trustedkeys", directory)
				if err := os.MkdirAll(directory, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(directory, keys[masked].Fingerprint), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				continue
			}
			prefix := strings.TrimPrefix(strings.TrimPrefix(directory, "root.d"), "prefix.d/")
			path, err := Add(filepath.Join(dir, layer), prefix, keys[key])
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 ||
				filepath.Base(path) != keys[key].Fingerprint {
				t.Errorf("%s: %v, %v", path, info.Mode(), err)
			}
		}
		s := New(filepath.Join(dir, "system"), filepath.Join(dir, "local"), "", filepath.Join(dir, "user"))
		for name, want := range test.want {
			found, err := s.Keys(name)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]bool{}
			for _, k := range found {
				got[names[k.Fingerprint]] = true
			}
			for _, key := range []string{"a", "b", "c"} {
				if got[key] != strings.Contains(want, key) {
					t.Errorf("%s: %s: key %s trusted: %v", test.files, name, key, got[key])
				}
			}
		}
	}
}

func TestDamagedKeystore(t *testing.T) {
	a, b := publicKey(t, newEntity(t, "a", nil)), publicKey(t, newEntity(t, "b", nil))
	for _, test := range []struct {
		name string
		text []byte
		want string
	}{
		{a.Fingerprint, b.Text, "the key in it is " + b.Fingerprint},
		{a.Fingerprint, a.Text[:len(a.Text)/2], "not an OpenPGP key"},
		{"README", []byte("keys of ours"), "not an OpenPGP key"},
		{a.Fingerprint, bytes.Repeat([]byte("x"), keystore.MaxFile+1), "larger than"},
	} {
		dir := t.TempDir()
		path, err := Add(dir, "example.com", a)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), test.name), test.text, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := New(dir).Keys("example.com/app"); !testkit.Says(err, test.want) ||
			!strings.Contains(err.Error(), test.name) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	dir := t.TempDir() // what a killed Add leaves is passed over
	if err := os.MkdirAll(dir+"/trustedkeys/root.d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/trustedkeys/root.d/."+a.Fingerprint+"123", a.Text[:9], 0o600); err != nil {
		t.Fatal(err)
	}
	if found, err := New(dir).Keys("example.com/app"); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	if _, err := New(dir).Keys("example.com/../../root.d"); err == nil {
		t.Error("a name that leads out of its directory was taken")
	}
}

func TestParseKeys(t *testing.T) {
	a, b := newEntity(t, "a", nil), newEntity(t, "b", nil)
	var two, private bytes.Buffer
	for _, e := range []*openpgp.Entity{a, b} {
		if err := e.Serialize(&two); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.SerializePrivate(&private, nil); err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ed, _, err3 := ed25519.GenerateKey(rand.Reader)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	for _, test := range []struct {
		what string
		text []byte
		want string // fingerprints or what the error has
	}{
		{"binary", publicKey(t, a).Text, fmt.Sprintf("%x", a.PrimaryKey.Fingerprint)},
		{"two", two.Bytes(), fmt.Sprintf("%x %x", a.PrimaryKey.Fingerprint, b.PrimaryKey.Fingerprint)},
		{"two, armored", armored(t, openpgp.PublicKeyType, two.Bytes()), fmt.Sprintf("%x %x", a.PrimaryKey.Fingerprint,
			b.PrimaryKey.Fingerprint)},
		{"private", private.Bytes(), "private key"},
		{"private, armored", armored(t, openpgp.PrivateKeyType, private.Bytes()), "private key"},
		{"signature", armored(t, openpgp.SignatureType, sign(t, a, "x", nil)), "expected public"},
		{"empty", nil, "no key in it"},
		{"text", []byte("hello"), "not an OpenPGP key"},
		{"P-256", pemOf(t, &p256.PublicKey), oneKey(t, pemOf(t, &p256.PublicKey)).Fingerprint},
		{"Ed25519", pemOf(t, ed), oneKey(t, pemOf(t, ed)).Fingerprint},
		{"P-384", pemOf(t, &p384.PublicKey), "P-384"},
		{"small RSA", pemOf(t, &small.PublicKey), "1024 bits"},
		{"two in PEM", append(pemOf(t, ed), pemOf(t, &p256.PublicKey)...), "more than one"},
		{"private in PEM", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}), "PRIVATE KEY"},
		{"giant", bytes.Repeat([]byte("\x99"), keystore.MaxFile+1), "larger than"},
	} {
		keys, err := ParseKeys(test.text)
		got := fmt.Sprint(err)
		if err == nil {
			var all []string
			for _, k := range keys {
				all = append(all, k.Fingerprint)
				if again := oneKey(t, k.Text); again.Fingerprint != k.Fingerprint ||
					fmt.Sprint(again.UserIDs()) != fmt.Sprint(k.UserIDs()) {
					t.Errorf("%s: what would be kept is another key", test.what)
				}
			}
			got = strings.Join(all, " ")
		}
		if !strings.Contains(got, test.want) || err == nil && got != test.want {
			t.Errorf("%s: %s, want %s", test.what, got, test.want)
		}
	}
}

func TestCheckACI(t *testing.T) {
	day := 24 * time.Hour
	ago := func(d time.Duration, life uint32) *packet.Config {
		return &packet.Config{Time: func() time.Time { return time.Now().Add(-d) }, KeyLifetimeSecs: life}
	}
	good, other, stranger := newEntity(t, "good", nil), newEntity(t, "other", nil), newEntity(t, "stranger", nil)
	expired := newEntity(t, "expired", ago(3*day, uint32((2*day).Seconds())))
	revoked := newEntity(t, "revoked", nil)
	dir := t.TempDir()
	add := func(prefix string, e *openpgp.Entity) {
		if _, err := Add(dir, prefix, publicKey(t, e)); err != nil {
			t.Fatal(err)
		}
	}
	revokedBefore := sign(t, revoked, "image", nil)
	if err := revoked.RevokeKey(packet.KeyCompromised, "stolen", nil); err != nil {
		t.Fatal(err)
	}
	add("example.com/team", good)
	add("example.com/team", expired)
	add("example.com/team", revoked)
	add("example.com/others", other)
	s := New(dir)
	ok := sign(t, good, "image", nil)
	shortLived := &packet.Config{Time: ago(3*day, 0).Time, SigLifetimeSecs: 10}
	aged := newEntity(t, "aged", ago(4*day, 0))
	add("example.com/team", aged)
	many := bytes.Repeat(sign(t, stranger, "image", nil), maxPackets-1)
	wrong := sign(t, good, "other", nil)
	for _, test := range []struct {
		what, name, data string
		signature        []byte
		want             string // "" if it is good
	}{
		{"binary", "example.com/team/app", "image", ok, ""},
		{"armored", "example.com/team", "image", armored(t, openpgp.SignatureType, ok), ""},
		{"of another image", "example.com/team/app", "image2", ok, "signature was changed"},
		{"of the beginning", "example.com/team/app", "imag", ok, "signature was changed"},
		{"wrong prefix", "example.com/others/app", "image", ok, "not trusted for example.com/others/app"},
		{"no key", "example.com/app", "image", ok, `no key is trusted for example.com/app: trust its signer's with ` +
			`"rkt trust --prefix=example.com/app"`},
		{"stranger", "example.com/team/app", "image", sign(t, stranger, "image", nil), "which is not trusted"},
		{"expired key", "example.com/team/app", "image", sign(t, expired, "image", ago(3*day, 0)), "has expired"},
		{"revoked key", "example.com/team/app", "image", revokedBefore, "is revoked"},
		{"expired signature", "example.com/team/app", "image", sign(t, aged, "image", shortLived), "it has expired"},
		{"stranger first", "example.com/team/app", "image", append(sign(t, stranger, "image", nil), ok...), ""},
		{"the second is good", "example.com/team/app", "image", append(wrong, ok...), ""},
		{"many", "example.com/team/app", "image", append(many, ok...), ""},
		{"too many", "example.com/team/app", "image", append(append(many, ok...), ok...), "more than 64 signatures"},
		{"too many to read the image for", "example.com/team/app", "image", append(bytes.Repeat(wrong, maxTrusted),
			ok...), "more than 8 signatures by trusted keys"},
		{"giant", "example.com/team/app", "image", append(ok, make([]byte, MaxSignature)...), "larger than"},
		{"empty", "example.com/team/app", "image", nil, "an empty file"},
		{"truncated", "example.com/team/app", "image", ok[:len(ok)-1], "truncated"},
		{"truncated armor", "example.com/team/app", "image", armored(t, openpgp.SignatureType, ok)[:100], ""},
		{"text", "example.com/team/app", "image", []byte("<html>404</html>"), "not an OpenPGP signature"},
		{"a key", "example.com/team/app", "image", publicKey(t, good).Text, "not a detached signature"},
		{"a key in binary", "example.com/team/app", "image", armored(t, openpgp.SignatureType, ok[:3]), "truncated"},
		{"no such name", "../x", "image", ok, "name of an image"},
	} {
		aci := strings.NewReader(test.data)
		signer, err := s.CheckACI(test.name, aci, test.signature)
		if test.what == "truncated armor" {
			if err == nil {
				t.Error("truncated armor: no error")
			}
			continue
		}
		if test.want == "" {
			if err != nil || signer.Key != publicKey(t, good).Fingerprint || signer.Name != test.name ||
				aci.Len() != 0 {
				t.Errorf("%s: %+v, %v, %d bytes left to read", test.what, signer, err, aci.Len())
			}
		} else if !testkit.Says(err, test.want) {
			t.Errorf("%s: %v, want %q", test.what, err, test.want)
		}
	}
}

func FuzzSignature(f *testing.F) {
	e := newEntity(f, "a", nil)
	sig := sign(f, e, "image", nil)
	f.Add(sig)
	f.Add(armored(f, openpgp.SignatureType, sig))
	f.Add(sig[:20])
	f.Add([]byte("-----BEGIN PGP SIGNATURE-----\n\n"))
	f.Add(bytes.Repeat(sig, 3))
	dir := f.TempDir()
	if _, err := Add(dir, "", publicKey(f, e)); err != nil {
		f.Fatal(err)
	}
	s := New(dir)
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := s.CheckACI("example.com", strings.NewReader("another image"), data); err == nil {
			t.Error("taken")
		}
	})
}

func FuzzKeys(f *testing.F) {
	e := newEntity(f, "a", nil)
	k := publicKey(f, e)
	f.Add(k.Text)
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pemOf(f, ed))
	f.Add([]byte("\x99\x01\x0d\x04"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := ParseKeys(data)
		if err != nil {
			return
		}
		for _, k := range keys {
			if strings.Trim(k.Fingerprint, "0123456789abcdef") != "" || len(k.Fingerprint) < 32 {
				t.Errorf("fingerprint %q", k.Fingerprint)
			}
			_, _ = k.Usable(), k.UserIDs()
		}
	})
}

// A proof is good for as long as its key is trusted for the name, unchanged, and nothing has
// expired.
func TestProof(t *testing.T) {
	a, b := newEntity(t, "a", nil), newEntity(t, "b", nil)
	dir := t.TempDir()
	s := New(dir)
	add := func(prefix string, k Key) string {
		t.Helper()
		path, err := Add(dir, prefix, k)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := add("example.com", publicKey(t, a))
	lasting := &packet.Config{SigLifetimeSecs: 3600}
	p, err := s.CheckACI("example.com/app", strings.NewReader("image"), sign(t, a, "image", lasting))
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(p.Until); left < 50*time.Minute || left > time.Hour {
		t.Errorf("a signature of an hour is good for %v", left)
	}
	want := func(what, want string, p keystore.Proof) {
		t.Helper()
		err := keystore.Keystore(s).Good(p)
		if !testkit.Says(err, want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	want("at once", "", p)
	add("example.com", publicKey(t, b))
	add("example.org", publicKey(t, b))
	want("with another key", "", p)
	if err := os.Rename(file, add("", publicKey(t, a))); err != nil {
		t.Fatal(err)
	}
	want("trusted for all", "", p)
	late := p
	late.Until = time.Now().Add(-time.Second)
	want("late", "has expired", late)
	if err := a.RevokeKey(packet.KeyCompromised, "", nil); err != nil {
		t.Fatal(err)
	}
	file = add("", publicKey(t, a))
	want("revoked", "was changed since", p)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	want("without the key", "is no longer trusted for example.com/app", p)
	if want("of nobody", "not the name of an image", keystore.Proof{}); keystore.Keystore(nil).Good(p) == nil {
		t.Error("good without a keystore")
	}
}

// Whatever expires first ends a proof: the signature, the key, or the subkey that signed.
func TestProofEnds(t *testing.T) {
	made := time.Now().Add(-time.Hour)
	at := func(life uint32) *packet.Config {
		return &packet.Config{Time: func() time.Time { return made }, KeyLifetimeSecs: life,
			Algorithm: packet.PubKeyAlgoEdDSA}
	}
	for _, c := range []struct{ key, subkey, signature, want uint32 }{ // seconds
		{0, 0, 0, 0}, {7200, 0, 0, 7200}, {0, 7200, 0, 7200}, {0, 0, 7200, 7200}, {9000, 8000, 7000, 7000},
		{7000, 8000, 9000, 7000}, {9000, 7000, 8000, 7000},
	} {
		e := newEntity(t, "a", at(c.key))
		if err := e.AddSigningSubkey(at(c.subkey)); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if _, err := Add(dir, "", publicKey(t, e)); err != nil {
			t.Fatal(err)
		}
		p, err := New(dir).CheckACI("example.com/app", strings.NewReader("image"),
			sign(t, e, "image", &packet.Config{Time: at(0).Time, SigLifetimeSecs: c.signature}))
		if err != nil {
			t.Fatal(err)
		}
		got := uint32(0)
		if !p.Until.IsZero() {
			got = uint32(p.Until.Sub(made.Truncate(time.Second)) / time.Second)
		}
		if got != c.want {
			t.Errorf("%+v: good for %d s", c, got)
		}
	}
}
