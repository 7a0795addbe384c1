package systree

import (
	"path/filepath"
	"testing"
)

// What a start pays for the copy when there is one.
func BenchmarkUse(b *testing.B) {
	trees := Trees{filepath.Join(b.TempDir(), "systemd"), "/"}
	if err := trees.Use(systemd, nothing); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := trees.Use(systemd, nothing); err != nil {
			b.Fatal(err)
		}
	}
}
