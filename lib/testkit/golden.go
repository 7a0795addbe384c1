package testkit

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Golden compares with a file of testdata, or writes it if $UPDATE is set.
func Golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not as it was (UPDATE=1 writes it anew):\n%s", file, got)
	}
}

// Generated compares the part of a page between two lines with what it should be, made of what it
// is, or writes it if $UPDATE is set.
func Generated(t *testing.T, page, begin, end string, generate func(old string) string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s: has no part between %q and %q", page, begin, end)
	}
	want := generate(old)
	switch {
	case want == old:
	case os.Getenv("UPDATE") != "":
		if err := os.WriteFile(page, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s: the part after %q is out of date (UPDATE=1 writes it):\n%s", page, begin, want)
	}
}
