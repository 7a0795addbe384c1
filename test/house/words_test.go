package house

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// unwanted are words that the field has others for, with those.
var unwanted = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`\b[Ff]olders?\b`), "directory"},
	{regexp.MustCompile(`\b[Cc]ontrol groups?\b`), "cgroup"},
	{regexp.MustCompile(`\btells whether\b`), "reports whether"},
	{regexp.MustCompile(`\bbut for\b`), "except for, or without"},
	{regexp.MustCompile(`\bthere is none of (this|the) name\b`), "unknown, or no such"},
	{regexp.MustCompile(`\b(stands?|comes|follows|put|given) behind\b`), "after"},
	{regexp.MustCompile(`\b(enoughToHope|hoped|patient)\b`), "what it is"},
}

// What people read has the words of the field.
// CHANGELOG.md stays as it was written.
func TestWords(t *testing.T) {
	files := 0
	for _, name := range tracked(t, "*.go", "*.md", "*.txtar", "*.sh", "units/*", "dist/*", "Makefile") {
		if name == "CHANGELOG.md" || name == "test/house/words_test.go" {
			continue
		}
		text, err := os.ReadFile("../../" + name)
		if err != nil {
			continue // removed in the tree, and in the index still
		}
		files++
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			for _, word := range unwanted {
				if found := word.pattern.FindString(line); found != "" {
					t.Errorf("%s:%d: %q: write %s", name, n, found, word.instead)
				}
			}
		}
	}
	if files < 500 {
		t.Errorf("looked at %d files only", files)
	}
}
