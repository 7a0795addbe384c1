package house

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// once are things that one package does for all others, and which that is.
var once = []struct {
	what    *regexp.Regexp
	in, why string
}{
	{regexp.MustCompile(`\bunix\.Openat2\(`), "lib/host/openat", "one rule for what may be opened below a directory"},
	{regexp.MustCompile(`\bunit\.(Serialize|NewUnitOption)\(`), "lib/host/unitfile", "one escaper of unit text"},
	{regexp.MustCompile(`["\x60]\[(Unit|Service|Socket|Slice|Timer|Journal)\](\\n|\n)`), "lib/host/unitfile",
		"one writer of unit text"},
	{regexp.MustCompile(`/(self|thread-self|%d)/mountinfo"`), "github.com/moby/sys/mountinfo", "one reader of mounts"},
}

// What one package does, no other does again: that package, or one that calls it, has the words.
func TestDoneOnce(t *testing.T) {
	found := map[string]bool{}
	err := filepath.WalkDir("../../lib", func(path string, d os.DirEntry, err error) error {
		dir := strings.TrimPrefix(filepath.Dir(path), "../../")
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") ||
			dir == "lib/testkit" {
			return err
		}
		text, err := os.ReadFile(path)
		for _, o := range once {
			if !o.what.Match(text) {
				continue
			}
			found[o.in] = true
			if dir != o.in && !strings.Contains(string(text), `"`+o.in+`"`) {
				t.Errorf("%s does what %s does: %s", path, o.in, o.why)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range once {
		if !found[o.in] {
			t.Errorf("nothing in %s matches %s any more", o.in, o.what)
		}
	}
}
