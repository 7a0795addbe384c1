package recipe

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// directory makes a directory with these files and opens it.
func directory(t *testing.T, files map[string]string) *os.File {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// written writes a recipe of pieces: "=NAME=CONTENT" is a file's content, and all else bytes of the
// archive.
func written(t *testing.T, pieces ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, piece := range pieces {
		if name, content, ok := strings.Cut(strings.TrimPrefix(piece, "="), "="); ok && piece[0] == '=' {
			w.File(name, int64(len(content)), Checksum(0, []byte(content)))
		} else {
			w.Raw([]byte(piece))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Raw bytes and contents come back in their order, also where a record is longer than the writer's
// buffer.
func TestRestore(t *testing.T) {
	long := strings.Repeat("raw bytes ", 20_000)
	root := directory(t, map[string]string{"a": "content of a", "d/b": long, "empty": ""})
	text := written(t, "header", "=a=content of a", long, "=d/b="+long, "=empty=", "=a=content of a", "end")
	var out bytes.Buffer
	if err := Restore(&out, bytes.NewReader(text), root, nil); err != nil {
		t.Fatal(err)
	}
	if want := "header" + "content of a" + long + long + "content of a" + "end"; out.String() != want {
		t.Errorf("%d bytes, want %d", out.Len(), len(want))
	}
}

// A file that is another one is an error; told of it, the caller may have the rest, with as many
// bytes as the archive had.
func TestRestoreGoesOn(t *testing.T) {
	root := directory(t, map[string]string{"a": "12X45", "b": "good"})
	text := written(t, "<", "=a=12345", "|", "=missing=123", "|", "=b=good", ">")
	if err := Restore(&bytes.Buffer{}, bytes.NewReader(text), root, nil); !testkit.Says(err, `"a"`) {
		t.Errorf("%v, want an error about a", err)
	}
	var out bytes.Buffer
	var bad []string
	err := Restore(&out, bytes.NewReader(text), root, func(name string, problem error) error {
		bad = append(bad, name)
		return nil
	})
	if err != nil || strings.Join(bad, " ") != "a missing" {
		t.Errorf("bad: %q, %v", bad, err)
	}
	if want := "<12X45|\x00\x00\x00|good>"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	stop := errors.New("stop")
	if err := Restore(&out, bytes.NewReader(text), root, func(string, error) error { return stop }); !errors.Is(err,
		stop) {
		t.Errorf("%v, want the caller's error", err)
	}
}

// A recipe that was cut anywhere, or in which a byte is another one, is damaged, or at least makes
// no other archive.
func TestDamaged(t *testing.T) {
	root := directory(t, map[string]string{"a": "content"})
	text, want := written(t, "header", "=a=content", "end"), "headercontentend"
	for n := range text {
		if err := Restore(&bytes.Buffer{}, bytes.NewReader(text[:n]), root, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d of %d bytes: %v, want ErrDamaged", n, len(text), err)
		}
		changed := bytes.Clone(text)
		changed[n] ^= 0x20
		var out bytes.Buffer
		if err := Restore(&out, bytes.NewReader(changed), root, nil); err == nil && out.String() != want {
			t.Errorf("byte %d changed: made %q without an error", n, out.String())
		}
	}
}

// No name leads out of the directory, by ".." or by a link, and a link is no file.
func TestRestoreStaysInside(t *testing.T) {
	root := directory(t, map[string]string{"inside": "secret"})
	outside := directory(t, map[string]string{"file": "secret"})
	for link, target := range map[string]string{"out": outside.Name(), "link": "inside"} {
		if err := os.Symlink(target, filepath.Join(root.Name(), link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"../" + filepath.Base(outside.Name()) + "/file", outside.Name() + "/file",
		"out/file", "link"} {
		var out bytes.Buffer
		if err := Restore(&out, bytes.NewReader(written(t, "="+name+"=secret")), root, nil); err == nil ||
			strings.Contains(out.String(), "secret") {
			t.Errorf("%s: made %q, %v", name, out.String(), err)
		}
	}
}

// Complete puts contents into the recipe that a later entry replaced, so that the rest of the
// directory is enough.
func TestComplete(t *testing.T) {
	root := directory(t, map[string]string{"a": "second", "b": "stays"})
	aside := directory(t, map[string]string{"1/0": "first"})
	text := written(t, "<", "=a=first", "|", "=b=stays", "|", "=a=second", ">")
	var completed, out bytes.Buffer
	w := NewWriter(&completed)
	if err := errors.Join(Complete(w, bytes.NewReader(text), root, aside), w.Close()); err != nil {
		t.Fatal(err)
	}
	if err := Restore(&out, &completed, root, nil); err != nil || out.String() != "<first|stays|second>" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := Complete(NewWriter(&bytes.Buffer{}), bytes.NewReader(text), root, directory(t, nil)); err == nil {
		t.Error("what nobody has is no error")
	}
}
