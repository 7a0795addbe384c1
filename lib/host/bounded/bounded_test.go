package bounded

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestRead(t *testing.T) {
	if text, err := Read(strings.NewReader("four"), 4); string(text) != "four" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := Read(strings.NewReader("fives"), 4); text != nil || !errors.Is(err, ErrTooLarge) ||
		!testkit.Says(err, "4 bytes") {
		t.Errorf("%q, %v", text, err)
	}
}

func TestFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("four"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(name string, limit int64) (string, error) {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		text, err := File(f, limit)
		return string(text), err
	}
	if text, err := read(name, 4); text != "four" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := read(name, 3); !errors.Is(err, ErrTooLarge) || !testkit.Says(err, name) {
		t.Error(err)
	}
	for _, other := range []string{"/", "/dev/zero"} {
		if _, err := read(other, 3); !testkit.Says(err, other+": ... regular file") {
			t.Error(err)
		}
	}
}
