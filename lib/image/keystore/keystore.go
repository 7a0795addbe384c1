// Package keystore owns the layout of the keystore, which is rkt's: which file is a key that is
// trusted for which name. It parses no key (package trust does) and links no cryptography beyond a
// hash, so that every start of a pod can ask whether an image that was verified once still counts
// as verified.
package keystore

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/bounded"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
)

// Keystore is the directories trustedkeys of the configuration, weakest first. In each,
// root.d/FINGERPRINT is a key that is trusted for every image, and prefix.d/PREFIX/FINGERPRINT one
// for the images of that name and below it. PREFIX is as many directories as it has parts. An empty
// file takes away the trust in the key of that fingerprint that was read before it.
type Keystore []string

// New gives the keystore of configuration directories, weakest first. Those that are "" are left
// out.
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

// MaxFile bounds a file of keys, bytes. Keys with many signatures by others are large.
const MaxFile = 1 << 20

// part is one part of a name, of an appc image or in a registry.
var (
	part = regexp.MustCompile(`^[a-z0-9]([a-z0-9._~-]*[a-z0-9])?$`)
	host = regexp.MustCompile(`^(\[[0-9a-f:]+\]|[a-z0-9]([a-z0-9._~-]*[a-z0-9])?)(:[0-9]{1,5})?$`)
)

// parts splits the name of an image, or a prefix. The results are file names, none of them hidden.
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
			return nil, fmt.Errorf("%q is not the name of an image or the beginning of one (as in example.com/app)",
				name)
		}
	}
	return all, nil
}

// CheckPrefix returns why keys cannot be trusted for a prefix.
func CheckPrefix(prefix string) error {
	_, err := parts(prefix)
	return err
}

// Add trusts a key for images of a prefix, or for all if that is "", and returns the file that it
// is in now, in a configuration directory.
func Add(config, prefix, fingerprint string, text []byte) (string, error) {
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
	path := filepath.Join(dir, fingerprint)
	return path, durable.WriteFile(path, text, 0o644)
}

// File is a key as the keystore has it. Nothing has looked yet whether it is the one that its name
// says.
type File struct {
	Fingerprint string // the file's name
	Path        string
	Text        []byte
}

// Sum is the digest of the text of a key.
func Sum(text []byte) string { return fmt.Sprintf("sha256-%x", sha256.Sum256(text)) }

// Files are the keys that are trusted for images of that name, sorted by fingerprint.
func (s Keystore) Files(name string) ([]File, error) {
	all := map[string]File{}
	for _, alias := range aliases(name) {
		found, err := s.files(alias)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if _, ok := all[f.Fingerprint]; !ok {
				all[f.Fingerprint] = f
			}
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b File) int {
		return cmp.Compare(a.Fingerprint, b.Fingerprint)
	}), nil
}

// files are those that are trusted for this one of a name's aliases.
func (s Keystore) files(name string) (map[string]File, error) {
	names, err := parts(name)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, dir := range s {
		dirs = append(dirs, filepath.Join(dir, rootDir))
	}
	for _, dir := range s {
		for i := range names {
			dirs = append(dirs, filepath.Join(append([]string{dir, prefixDir}, names[:i+1]...)...))
		}
	}
	all := map[string]File{}
	for _, dir := range dirs {
		if err := read(dir, all); err != nil {
			return nil, err
		}
	}
	return all, nil
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

// read adds the files of a directory. The keystore's own temporary files are hidden.
func read(dir string, all map[string]File) error {
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
		text, err := ReadFile(path)
		if err != nil {
			return fmt.Errorf("trusted key %w", err)
		}
		if len(text) == 0 {
			delete(all, e.Name())
			continue
		}
		if len(all) >= maxStored {
			return fmt.Errorf("trusted key %s: more than %d keys", path, maxStored)
		}
		all[e.Name()] = File{e.Name(), path, text}
	}
	return nil
}

// ReadFile reads a small regular file. The error names it.
func ReadFile(path string) ([]byte, error) {
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
	text, err := ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}

// ReadAll reads what may be a key: no more than MaxFile bytes.
func ReadAll(r io.Reader) ([]byte, error) {
	return bounded.Read(r, MaxFile)
}

// Proof is the result of verifying a signature of an image: which key signed it, under which name.
// It says nothing of the image, which is known by its digest where a proof is kept.
type Proof struct {
	Name  string    `json:"name"`           // for which the key was trusted
	Key   string    `json:"key"`            // its fingerprint
	Sum   string    `json:"sum"`            // Sum of the key's file
	Until time.Time `json:"until,omitzero"` // when signature or key expire, if they do
}

// Good returns why a proof does not count any more, or nil if it does: the key is still trusted for
// the name, its file is the same, so that it has not been revoked since, and nothing has expired.
func (s Keystore) Good(p Proof) error {
	files, err := s.Files(p.Name)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(files, func(f File) bool { return f.Fingerprint == p.Key })
	switch {
	case i < 0:
		return fmt.Errorf("key %s, which verified it, is no longer trusted for %s", p.Key, p.Name)
	case Sum(files[i].Text) != p.Sum:
		return fmt.Errorf("key %s was changed since it verified it", p.Key)
	case !p.Until.IsZero() && time.Now().After(p.Until):
		return fmt.Errorf("its signature by key %s has expired", p.Key)
	}
	return nil
}
