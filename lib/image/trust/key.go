package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/rkt-toolkit/rkt/lib/host/printable"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
)

// Key is a public key: either an OpenPGP key, which signs ACIs, or one in PEM (RFC 7468, PUBLIC
// KEY), which signs what registries carry.
type Key struct {
	Fingerprint string // lower-case hex: OpenPGP's, or the SHA-256 of the DER encoding of the key in PEM
	Text        []byte // as it is kept in the keystore

	pgp    *openpgp.Entity
	public crypto.PublicKey // *ecdsa.PublicKey, ed25519.PublicKey or *rsa.PublicKey
}

// ParseKeys reads the keys of a file: OpenPGP keys, armored or not, or one public key in PEM.
func ParseKeys(text []byte) ([]Key, error) {
	if len(text) > keystore.MaxFile {
		return nil, fmt.Errorf("larger than %d bytes", keystore.MaxFile)
	}
	if block, rest := pemBlock(text); block != nil {
		if len(rest) > 0 {
			return nil, errors.New("more than one thing in it: one public key in PEM is taken from a file")
		}
		k, err := pemKey(block)
		if err != nil {
			return nil, err
		}
		return []Key{k}, nil
	}
	ring, armored, err := readRing(text)
	if err != nil {
		return nil, err
	}
	var keys []Key
	for _, entity := range ring {
		k := Key{Fingerprint: fmt.Sprintf("%x", entity.PrimaryKey.Fingerprint), Text: text, pgp: entity}
		if secret(entity) {
			return nil, errors.New("it holds a private key: give the public one (gpg --armor --export)")
		}
		if len(ring) > 1 || !armored {
			if k.Text, err = armorKey(entity); err != nil {
				return nil, err
			}
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// parseStored reads a key of the keystore. rkt kept a file of several keys as it was, and trusted
// the first.
func parseStored(text []byte) (Key, error) {
	keys, err := ParseKeys(text)
	if err != nil {
		return Key{}, err
	}
	return keys[0], nil
}

// pemBlock is the PEM block that a text begins with, and what follows it; nil if it is something
// else, as OpenPGP armor, which looks alike.
func pemBlock(text []byte) (*pem.Block, []byte) {
	text = bytes.TrimSpace(text)
	if !bytes.HasPrefix(text, []byte("-----BEGIN ")) || bytes.HasPrefix(text, []byte("-----BEGIN PGP ")) {
		return nil, nil
	}
	return pem.Decode(text)
}

func pemKey(block *pem.Block) (Key, error) {
	if block.Type != "PUBLIC KEY" {
		return Key{}, fmt.Errorf("%q in PEM, and not a PUBLIC KEY", block.Type)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, err
	}
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() {
			return Key{}, fmt.Errorf("an ECDSA key of the curve %s (only P-256 is known)", p.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if bits := p.N.BitLen(); bits < 2048 || bits > 8192 {
			return Key{}, fmt.Errorf("an RSA key of %d bits (2048 to 8192 are taken)", bits)
		}
	case ed25519.PublicKey:
	default:
		return Key{}, errors.New("neither an ECDSA, an Ed25519 nor an RSA key")
	}
	text := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})
	return Key{Fingerprint: fmt.Sprintf("%x", sha256.Sum256(block.Bytes)), Text: text, public: public}, nil
}

func readRing(text []byte) (openpgp.EntityList, bool, error) {
	var ring openpgp.EntityList
	var err error
	armored := len(text) > 0 && text[0]&0x80 == 0 // RFC 9580, 4.2: a packet begins with that bit
	if armored {
		ring, err = openpgp.ReadArmoredKeyRing(bytes.NewReader(text))
	} else {
		ring, err = openpgp.ReadKeyRing(bytes.NewReader(text))
	}
	switch {
	case err != nil:
		return nil, armored, fmt.Errorf("not an OpenPGP key, nor a public key in PEM: %w", err)
	case len(ring) == 0:
		return nil, armored, errors.New("no key in it")
	}
	return ring, armored, nil
}

func secret(e *openpgp.Entity) bool {
	return e.PrivateKey != nil ||
		slices.ContainsFunc(e.Subkeys, func(s openpgp.Subkey) bool { return s.PrivateKey != nil })
}

func armorKey(entity *openpgp.Entity) ([]byte, error) {
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err == nil {
		err = errors.Join(entity.Serialize(w), w.Close())
	}
	b.WriteByte('\n')
	return b.Bytes(), err
}

// OpenPGP reports whether the key signs ACIs.
func (k Key) OpenPGP() bool { return k.pgp != nil }

// Algorithm is what a key in PEM is for, "" of an OpenPGP key.
func (k Key) Algorithm() string {
	switch p := k.public.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + p.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", p.N.BitLen())
	}
	return ""
}

// Subkeys are the fingerprints of an OpenPGP key's subkeys.
func (k Key) Subkeys() []string {
	var all []string
	if k.pgp != nil {
		for _, s := range k.pgp.Subkeys {
			all = append(all, fmt.Sprintf("%x", s.PublicKey.Fingerprint))
		}
	}
	return all
}

// UserIDs are the names that an OpenPGP key says it is of, without what a terminal would not show
// as it is.
func (k Key) UserIDs() []string {
	var all []string
	if k.pgp != nil {
		for _, name := range slices.Sorted(maps.Keys(k.pgp.Identities)) {
			all = append(all, printable.Line(name))
		}
	}
	return all
}

// Usable tells why nothing can be verified with a key any more.
func (k Key) Usable() error {
	if k.pgp == nil {
		return nil
	}
	return usable(k.pgp)
}

func usable(e *openpgp.Entity) error {
	now := time.Now()
	self, id := e.PrimarySelfSignature()
	switch {
	case e.Revoked(now), id != nil && id.Revoked(now):
		return fmt.Errorf("key %x is revoked", e.PrimaryKey.Fingerprint)
	case self == nil:
		return fmt.Errorf("key %x has no valid self-signature", e.PrimaryKey.Fingerprint)
	case e.PrimaryKey.KeyExpired(self, now):
		return fmt.Errorf("key %x has expired", e.PrimaryKey.Fingerprint)
	}
	return nil
}
