package pictures

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// The files in docs/pictures are what is drawn here, name programs that exist, and pages show them.
func TestPictures(t *testing.T) {
	program := regexp.MustCompile(`rkt-[a-z][-a-z0-9]*`)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		shown.Write(text)
	}
	for name, picture := range All {
		text := picture.SVG()
		testkit.Golden(t, "../../../docs/pictures/"+name, text)
		for _, line := range picture.Overfull() {
			t.Errorf("%s: %q is wider than its box", name, line)
		}
		for d := xml.NewDecoder(strings.NewReader(string(text))); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		for _, name := range program.FindAllString(string(text), -1) {
			if _, err := os.Stat("../../" + name + "/main.go"); err != nil {
				t.Error(err)
			}
		}
		if !strings.Contains(shown.String(), "pictures/"+name) {
			t.Errorf("%s: no page shows it", name)
		}
	}
}
