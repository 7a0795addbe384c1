package trust

import (
	"bytes"
	"cmp"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
)

// MaxSignature is how many bytes a file of signatures may have.
const MaxSignature = 256 << 10

const (
	maxPackets = 64 // signatures in one file
	maxTrusted = 8  // of them by keys that are trusted: each is a hash of the whole image
)

// sha1End is when signatures made with SHA-1 ceased to count (RFC 9580, 9.5: those after it are not
// to be validated).
var sha1End = time.Date(2023, time.February, 1, 0, 0, 0, 0, time.UTC)

// NoKey is the error of an image for whose name no key is trusted.
type NoKey struct {
	Name string
	PEM  bool // a public key in PEM is wanted
}

// unknownEntity begins each error for a signature by a key that is not trusted: rkt's words, which
// scripts match.
const unknownEntity = "openpgp: signature made by unknown entity: "

func (e *NoKey) Error() string {
	before, file := unknownEntity, ""
	if e.PEM {
		before, file = "", " FILE.pub"
	}
	return fmt.Sprintf("%sno key is trusted for %s: trust its signer's with \"rkt trust --prefix=%s%s\", or use "+
		"--insecure-options=image to run it unsigned",
		before, e.Name, e.Name, file)
}

// HaveKey reports whether some key that is trusted for ACIs of that name is good today; the error
// is a *NoKey if none is trusted.
func (s Keystore) HaveKey(name string) error {
	_, ring, err := s.ring(name)
	if err == nil && ring == nil {
		err = &NoKey{Name: name}
	}
	for _, entity := range ring {
		bad := usable(entity)
		if bad == nil {
			return nil
		}
		err = cmp.Or(err, bad)
	}
	return err
}

// ring gives the OpenPGP keys that are trusted for a name, in both forms.
func (s Keystore) ring(name string) ([]Key, openpgp.EntityList, error) {
	keys, err := s.Keys(name)
	keys = slices.DeleteFunc(keys, func(k Key) bool { return !k.OpenPGP() })
	var ring openpgp.EntityList
	for _, k := range keys {
		ring = append(ring, k.pgp)
	}
	return keys, ring, err
}

// CheckACI verifies a detached OpenPGP signature, armored or not, of an ACI as it is sent (appc
// spec, aci.md: compressed or not) by a key that is trusted for images of that name. If the
// signature is good, aci has been read to its end.
func (s Keystore) CheckACI(name string, aci io.Reader, signature []byte) (keystore.Proof, error) {
	keys, ring, err := s.ring(name)
	if err == nil && ring == nil {
		err = &NoKey{Name: name}
	}
	if err != nil {
		return keystore.Proof{}, err
	}
	packets, err := splitSignatures(signature)
	if err != nil {
		return keystore.Proof{}, fmt.Errorf("signature: %w", err)
	}
	var issuers []string
	var why error
	var sigs []*packet.Signature
	var trusted [][]byte
	for _, p := range packets {
		sig, err := readSignature(p)
		if err != nil {
			why = cmp.Or(why, err)
			continue
		}
		if id := *sig.IssuerKeyId; len(ring.KeysById(id)) > 0 {
			sigs, trusted = append(sigs, sig), append(trusted, p)
		} else {
			issuers = append(issuers, fmt.Sprintf("%016X", id))
		}
	}
	if len(trusted) > maxTrusted {
		return keystore.Proof{}, fmt.Errorf("more than %d signatures by trusted keys", maxTrusted)
	}
	signers, errs, err := checkAll(ring, aci, trusted)
	if err != nil {
		return keystore.Proof{}, err
	}
	for i, signer := range signers {
		if signer != nil {
			k := keys[slices.Index(ring, signer)]
			return keystore.Proof{Name: name, Key: k.Fingerprint, Sum: keystore.Sum(k.Text),
				Until: until(signer, sigs[i])}, nil
		}
		why = cmp.Or(unusable(ring, *sigs[i].IssuerKeyId), errs[i])
	}
	if why == nil {
		return keystore.Proof{},
			fmt.Errorf(unknownEntity+
				"signed by %s, which is not trusted for %s (\"rkt trust --prefix=%s\" trusts a key)",
				strings.Join(issuers, ", "), name, name)
	}
	return keystore.Proof{}, fmt.Errorf("signature: %w", why)
}

// until is when a signature ceases to count: when it expires, or its key, or the subkey that made
// it. It is zero if none of them does.
func until(signer *openpgp.Entity, sig *packet.Signature) time.Time {
	ends := []time.Time{end(sig.CreationTime, sig.SigLifetimeSecs)}
	if self, _ := signer.PrimarySelfSignature(); self != nil {
		ends = append(ends, end(signer.PrimaryKey.CreationTime, self.KeyLifetimeSecs))
	}
	for _, sub := range signer.Subkeys {
		if sub.PublicKey.KeyId == *sig.IssuerKeyId {
			ends = append(ends, end(sub.PublicKey.CreationTime, sub.Sig.KeyLifetimeSecs))
		}
	}
	ends = slices.DeleteFunc(ends, time.Time.IsZero)
	if len(ends) == 0 {
		return time.Time{}
	}
	return slices.MinFunc(ends, time.Time.Compare)
}

// end is when what was made at a time and holds for some seconds expires; zero if it does not.
func end(made time.Time, seconds *uint32) time.Time {
	if seconds == nil || *seconds == 0 {
		return time.Time{}
	}
	return made.Add(time.Duration(*seconds) * time.Second).UTC()
}

// checkAll checks several signatures in one reading of what they are of. A signature has either a
// signer or an error.
func checkAll(ring openpgp.EntityList, aci io.Reader, signatures [][]byte) ([]*openpgp.Entity, []error, error) {
	if len(signatures) == 0 {
		return nil, nil, nil
	}
	signers, errs := make([]*openpgp.Entity, len(signatures)), make([]error, len(signatures))
	var writers []io.Writer
	var pipes []*io.PipeWriter
	var wait sync.WaitGroup
	for i, text := range signatures {
		r, w := io.Pipe()
		writers, pipes = append(writers, w), append(pipes, w)
		wait.Go(func() {
			signers[i], errs[i] = checkOne(ring, r, text)
			_, _ = io.Copy(io.Discard, r) // for the others
		})
	}
	_, err := io.Copy(io.MultiWriter(writers...), aci)
	for _, w := range pipes {
		w.CloseWithError(err) // io.EOF if it is nil
	}
	wait.Wait()
	return signers, errs, err
}

func checkOne(ring openpgp.EntityList, aci io.Reader, signature []byte) (*openpgp.Entity, error) {
	signer, err := openpgp.CheckDetachedSignature(ring, aci, bytes.NewReader(signature), nil)
	switch {
	case err == nil:
		return signer, nil
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return nil, errors.New("by a key that may not sign")
	case errors.Is(err, pgperrors.ErrSignatureExpired):
		return nil, errors.New("it has expired")
	}
	if _, wrong := errors.AsType[pgperrors.SignatureError](err); wrong {
		err = fmt.Errorf("it is not of these bytes: the image or the signature was changed (%w)", err)
	}
	return nil, err
}

// unusable tells what is wrong with the key of that ID, nil if nothing is.
func unusable(ring openpgp.EntityList, id uint64) error {
	for _, k := range ring.KeysById(id) {
		if err := usable(k.Entity); err != nil {
			return err
		}
		if k.PublicKey != k.Entity.PrimaryKey && k.Revoked(time.Now()) {
			return fmt.Errorf("subkey %016X is revoked", id)
		}
	}
	return nil
}

// splitSignatures gives each packet of a detached signature by itself.
func splitSignatures(text []byte) ([][]byte, error) {
	if len(text) > MaxSignature {
		return nil, fmt.Errorf("larger than %d bytes", MaxSignature)
	}
	if len(text) == 0 {
		return nil, errors.New("an empty file")
	}
	var r io.Reader = bytes.NewReader(text)
	if text[0]&0x80 == 0 {
		block, err := armor.Decode(r)
		if err == io.EOF {
			return nil, errors.New("not an OpenPGP signature")
		}
		if err != nil {
			return nil, err
		}
		if block.Type != openpgp.SignatureType {
			return nil, fmt.Errorf("%q, and not a detached signature (gpg --armor --detach-sign makes one)", block.Type)
		}
		r = block.Body
	}
	var all [][]byte
	for packets := packet.NewOpaqueReader(r); ; {
		p, err := packets.Next()
		if err == io.EOF && len(all) > 0 {
			return all, nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = errors.New("truncated")
		}
		if err == nil && len(all) == maxPackets {
			err = fmt.Errorf("more than %d signatures", maxPackets)
		}
		var b bytes.Buffer
		if err == nil {
			err = p.Serialize(&b)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, b.Bytes())
	}
}

// readSignature reads one, and refuses what does not count.
func readSignature(text []byte) (*packet.Signature, error) {
	p, err := packet.NewReader(bytes.NewReader(text)).Next()
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = errors.New("truncated, or of an unknown kind")
	}
	if err != nil {
		return nil, err
	}
	sig, ok := p.(*packet.Signature)
	switch {
	case !ok:
		return nil, errors.New("not a signature")
	case sig.IssuerKeyId == nil:
		return nil, errors.New("it does not say whose it is")
	case sig.SigType != packet.SigTypeBinary:
		return nil, errors.New("not a signature of a file")
	case sig.Hash == crypto.SHA1 && sig.CreationTime.After(sha1End):
		return nil, errors.New("made with SHA-1")
	case sig.Hash == crypto.MD5 || sig.Hash == crypto.RIPEMD160:
		return nil, fmt.Errorf("made with %s", sig.Hash)
	}
	return sig, nil
}
