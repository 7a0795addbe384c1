package keystore

import (
	"path/filepath"
	"strings"
	"testing"
)

// A prefix never leads out of its directory, nor to a hidden file.
func FuzzPrefix(f *testing.F) {
	for _, s := range []string{"example.com/app", "localhost:5000/a", "[::1]:5000/a", "..", "a/../b", "/a", "a//b",
		".a", "a/.b", "a\x00b", "docker.io/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, prefix string) {
		names, err := parts(prefix)
		if err != nil {
			return
		}
		joined := filepath.Join(names...)
		if joined != strings.Join(names, "/") || !filepath.IsLocal(joined) || strings.Contains("/"+joined, "/.") ||
			strings.ContainsAny(joined, "\x00\n") {
			t.Errorf("%q became %q", prefix, joined)
		}
	})
}
