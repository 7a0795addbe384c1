package main

import (
	"strings"
	"sync"
	"testing"
)

// Two apps that look at one directory at the same moment see the same, as they did not when each
// tried to make a directory of one name there.
func TestLookTogether(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				if said := look(dir); !strings.HasSuffix(said, " empty writable") {
					t.Error(said)
					return
				}
			}
		})
	}
	all.Wait()
}
