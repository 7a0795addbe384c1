// Package trust decides whose word on an image counts. It owns the keystore, in rkt's layout, and checks signatures against it: OpenPGP
// signatures of ACIs, and cosign's key-pair signatures of what registries carry. It knows nothing of how an image or a signature is
// fetched; keys it can find and fetch itself.
package trust

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/durable"
)

// Keystore is the folders trustedkeys of the configuration, weakest first. In each, root.d/FINGERPRINT is a key that is trusted for
// every image, and prefix.d/PREFIX/FINGERPRINT one for the images of that name and below it. PREFIX is as many folders as it has
// parts. An empty file takes away the trust in the key of that fingerprint that was read before it.
type Keystore []string

// New gives the keystore of configuration folders, weakest first. Those that are "" are left out.
func New(configs ...string) Keystore {
	var s Keystore
	for _, dir := range configs {
		if dir != "" {
			s = append(s, filepath.Join(dir, "trustedkeys"))
		}
	}
	return s
}

const (
	rootDir   = "root.d"
	prefixDir = "prefix.d"

	maxName   = 1024 // bytes
	maxStored = 1000 // keys for one name
)

// part is one part of a name, of an appc image or in a registry.
var (
	part = regexp.MustCompile(`^[a-z0-9]([a-z0-9._~-]*[a-z0-9])?$`)
	host = regexp.MustCompile(`^(\[[0-9a-f:]+\]|[a-z0-9]([a-z0-9._~-]*[a-z0-9])?)(:[0-9]{1,5})?$`)
)

// parts takes the name of an image, or a prefix, apart. What it returns are file names, none of them hidden.
func parts(name string) ([]string, error) {
	if len(name) > maxName {
		return nil, fmt.Errorf("name longer than %d bytes", maxName)
	}
	all := strings.Split(strings.ToLower(name), "/")
	for i, p := range all {
		pattern := part
		if i == 0 {
			pattern = host
		}
		if !pattern.MatchString(p) || len(p) > 240 {
			return nil, fmt.Errorf("%q is not the name of an image or the beginning of one (as in example.com/app)", name)
		}
	}
	return all, nil
}

// CheckPrefix tells why keys cannot be trusted for a prefix.
func CheckPrefix(prefix string) error {
	_, err := parts(prefix)
	return err
}

// Add trusts a key for images of a prefix, or for all if that is "", and returns the file that it is in now. It goes into the folder
// of the administrator's configuration.
func Add(config, prefix string, k Key) (string, error) {
	dir := filepath.Join(config, "trustedkeys", rootDir)
	if prefix != "" {
		names, err := parts(prefix)
		if err != nil {
			return "", err
		}
		dir = filepath.Join(append([]string{config, "trustedkeys", prefixDir}, names...)...)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, k.Fingerprint)
	return path, durable.WriteFile(path, k.Text, 0o644)
}

// Keys are those that are trusted for images of that name. A file in the keystore that is not the key that its name says is an error.
func (s Keystore) Keys(name string) ([]Key, error) {
	var found []Key
	for _, alias := range aliases(name) {
		names, err := parts(alias)
		if err != nil {
			return nil, err
		}
		keys := map[string]Key{}
		for _, dir := range s {
			if err := read(filepath.Join(dir, rootDir), keys); err != nil {
				return nil, err
			}
		}
		for _, dir := range s {
			for i := range names {
				if err := read(filepath.Join(append([]string{dir, prefixDir}, names[:i+1]...)...), keys); err != nil {
					return nil, err
				}
			}
		}
		for _, k := range keys {
			if !slices.ContainsFunc(found, func(f Key) bool { return f.Fingerprint == k.Fingerprint }) {
				found = append(found, k)
			}
		}
	}
	slices.SortFunc(found, func(a, b Key) int { return cmp.Compare(a.Fingerprint, b.Fingerprint) })
	return found, nil
}

// Trusts tells whether the key of that fingerprint is trusted for images of that name now.
func (s Keystore) Trusts(name, fingerprint string) bool {
	keys, err := s.Keys(name)
	return err == nil && slices.ContainsFunc(keys, func(k Key) bool { return k.Fingerprint == fingerprint && k.Usable() == nil })
}

// hubs are the names of Docker Hub: what rkt takes, what people write, and what cosign signs.
var hubs = []string{"registry-1.docker.io", "docker.io", "index.docker.io"}

// aliases are the names under which keys for an image may be.
func aliases(name string) []string {
	first, rest, ok := strings.Cut(name, "/")
	if !ok || !slices.Contains(hubs, first) {
		return []string{name}
	}
	var all []string
	for _, hub := range hubs {
		all = append(all, hub+"/"+rest)
	}
	return all
}

// read adds the keys of a folder. The keystore's own temporary files are hidden.
func read(dir string, keys map[string]Key) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		text, err := readFile(path)
		if err != nil {
			return err
		}
		if len(text) == 0 {
			delete(keys, e.Name())
			continue
		}
		k, err := parseStored(text)
		if err == nil && k.Fingerprint != e.Name() {
			err = fmt.Errorf("the key in it is %s", k.Fingerprint)
		}
		if err == nil && len(keys) >= maxStored {
			err = fmt.Errorf("more than %d keys", maxStored)
		}
		if err != nil {
			return fmt.Errorf("trusted key %s: %w", path, err)
		}
		keys[k.Fingerprint] = k
	}
	return nil
}

// readFile reads a small regular file.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := readAll(f, maxKey)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}

// readAll reads what is small.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return text, err
}
