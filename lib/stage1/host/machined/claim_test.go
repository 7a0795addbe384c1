package machined

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/host/process"
)

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"web": true, "web-1.example": true, "Web_2": true, "rkt-web": true, strings.Repeat("a", 64): true,
		strings.Repeat("a", 65): false,
		"":                      false, ".host": false, "web.": false, "-web": false, "web-": false, "a..b": false,
		"a b": false, "a:b": false, "ü": false, "a/b": false, "..": false, "a\nb": false,
		"rkt-01234567-89ab-cdef-0123-456789abcdef": false,
	} {
		if got := ValidName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// A name that a living process has claimed is not free, that of one that is gone is.
func TestClaim(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "machines")
	link := filepath.Join(dir, "no-such-machine")
	for of, want := range map[string]bool{process.ID(1): false, "1.5": true, "nonsense": true,
		process.ID(os.Getpid()): true} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		os.Remove(link)
		if err := os.Symlink(of, link); err != nil {
			t.Fatal(err)
		}
		free, err := claim(context.Background(), dir, "no-such-machine")
		if free != want || err != nil {
			t.Errorf("%s: %v, %v", of, free, err)
		}
		if now, _ := os.Readlink(link); want && now != process.ID(os.Getpid()) || !want && now != of {
			t.Errorf("%s: then %s", of, now)
		}
	}
}
