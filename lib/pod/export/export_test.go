package export

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// aci writes an archive of files: NAME=TEXT, or NAME/ for a directory.
func aci(files ...string) func(io.Writer) error {
	return func(w io.Writer) error {
		archive := tar.NewWriter(w)
		for _, f := range files {
			name, text, _ := strings.Cut(f, "=")
			h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}
			if strings.HasSuffix(name, "/") {
				h.Typeflag, h.Mode = tar.TypeDir, 0o755
			}
			if err := archive.WriteHeader(h); err != nil {
				return err
			}
			if _, err := io.WriteString(archive, text); err != nil {
				return err
			}
		}
		return archive.Close()
	}
}

var errHalf = errors.New("broken off")

func half(w io.Writer) error {
	if _, err := io.WriteString(w, "half"); err != nil {
		return err
	}
	return errHalf
}

// names lists what is in a directory.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != dir {
			list = append(list, path[len(dir)+1:])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A file is there whole or not at all, and what was there stays unless it is to be replaced.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.aci")
	text := func(s string) func(io.Writer) error {
		return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
	}
	if err := File(path, false, half); !errors.Is(err, errHalf) {
		t.Errorf("%v, want %v", err, errHalf)
	}
	if left := names(t, dir); left != nil {
		t.Errorf("left: %v", left)
	}
	if err := File(path, false, text("one")); err != nil {
		t.Fatal(err)
	}
	if err := File(path, false, text("two")); !testkit.Says(err, "--overwrite") {
		t.Errorf("%v, want one that names --overwrite", err)
	}
	if err := File(path, true, half); !errors.Is(err, errHalf) {
		t.Errorf("%v, want %v", err, errHalf)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "one" {
		t.Errorf("%q, %v", got, err)
	}
	if err := File(path, true, text("two")); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "two" {
		t.Errorf("%q, %v", got, err)
	}
	if err := File(dir, true, text("two")); !testkit.Says(err, "not a regular file") {
		t.Errorf("over a directory: %v", err)
	}
	if left := names(t, dir); !slices.Equal(left, []string{"a.aci"}) {
		t.Errorf("left: %v", left)
	}
}

// A directory is there whole or not at all; replaced, it has nothing of the one before.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	if err := Directory(path, false, false, half); !errors.Is(err, errHalf) {
		t.Errorf("%v, want %v", err, errHalf)
	}
	if left := names(t, dir); left != nil {
		t.Errorf("left: %v", left)
	}
	one := aci("manifest={}", "rootfs/", "rootfs/a=1")
	if err := Directory(path, false, false, one); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, dir), []string{"out", "out/manifest", "out/rootfs", "out/rootfs/a"}; !slices.Equal(got,
		want) {
		t.Errorf("%v, want %v", got, want)
	}
	if err := Directory(path, true, false, one); !testkit.Says(err, "--overwrite") {
		t.Errorf("%v, want one that names --overwrite", err)
	}
	if err := Directory(path, true, true, aci("manifest={}", "rootfs/", "rootfs/b=2")); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, dir), []string{"out", "out/b"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if err := Directory("/", false, true, one); err == nil {
		t.Error("/ was replaced")
	}
}

// A hostile archive makes nothing outside of the directory.
func TestFolderStaysInside(t *testing.T) {
	dir := t.TempDir()
	if err := Directory(filepath.Join(dir, "out"), false, false,
		aci("manifest={}", "rootfs/", "rootfs/../../outside=x")); err == nil {
		t.Error("no error")
	}
	if left := names(t, dir); left != nil {
		t.Errorf("left: %v", left)
	}
}

// What a killed program has left makes no difference, and what another one is making is left alone.
func TestFolderBesideOthers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	tmp, lock, err := beside(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tmp, "half"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Directory(path, false, false, aci("manifest={}")); !testkit.Says(err, "another program") {
		t.Errorf("%v, want one about another program", err)
	}
	if _, err := durable.Lock(tmp, 0); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("the other one's lock: %v", err)
	}
	lock.Close()
	if err := Directory(path, false, false, aci("manifest={}")); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, dir), []string{"out", "out/manifest"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// The upper layer's files hide the lower one's, types and links are kept, and the same layers give
// the same bytes.
func TestPack(t *testing.T) {
	lower, upper := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{lower + "/a": "lower", lower + "/b": "lower", upper + "/b": "upper"} {
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Link(lower+"/a", lower+"/c"), os.Symlink("a", upper+"/link"),
		os.Mkdir(upper+"/d", 0o750)); err != nil {
		t.Fatal(err)
	}
	manifest := schema.BlankImageManifest()
	manifest.Name = "example.com/app"
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := pack(t.Context(), manifest, []string{lower, upper}, t.TempDir(), out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("twice the same makes other bytes")
	}
	var got []string
	for r := tar.NewReader(&first); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "manifest" {
			continue
		}
		got = append(got, fmt.Sprintf("%s %c %04o %s%s", h.Name, h.Typeflag, h.Mode, text, h.Linkname))
	}
	want := []string{"rootfs/ 5", "rootfs/a 0 0640 lower", "rootfs/b 0 0640 upper", "rootfs/c 1 0640 rootfs/a",
		"rootfs/d/ 5 0750 ", "rootfs/link 2 0777 a"}
	if len(got) > 0 {
		got[0] = got[0][:len(want[0])] // t.TempDir's mode
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := pack(ctx, manifest, []string{lower}, t.TempDir(), io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}
