// Package trust decides whose word on an image counts. It parses the keys of the keystore (package
// keystore) and checks signatures against them: OpenPGP signatures of ACIs, and cosign's key-pair
// signatures of what registries carry. It knows nothing of how an image or a signature is fetched;
// keys it can find and fetch itself.
package trust

import (
	"fmt"

	"github.com/rkt-toolkit/rkt/lib/image/keystore"
)

// Keystore is the keystore with its keys parsed.
type Keystore keystore.Keystore

// New gives the keystore of configuration directories, weakest first. Those that are "" are left
// out.
func New(configs ...string) Keystore { return Keystore(keystore.New(configs...)) }

// Add trusts a key for images of a prefix, or for all if that is "", and returns the file that it
// is in now. It goes into the administrator's configuration directory.
func Add(config, prefix string, k Key) (string, error) {
	return keystore.Add(config, prefix, k.Fingerprint, k.Text)
}

// Keys are those that are trusted for images of that name. A file in the keystore that is not the
// key that its name says is an error.
func (s Keystore) Keys(name string) ([]Key, error) {
	files, err := keystore.Keystore(s).Files(name)
	if err != nil {
		return nil, err
	}
	var found []Key
	for _, f := range files {
		k, err := parseStored(f.Text)
		if err == nil && k.Fingerprint != f.Fingerprint {
			err = fmt.Errorf("the key in it is %s", k.Fingerprint)
		}
		if err != nil {
			return nil, fmt.Errorf("trusted key %s: %w", f.Path, err)
		}
		k.Text = f.Text // several keys in one file are kept as they are
		found = append(found, k)
	}
	return found, nil
}
