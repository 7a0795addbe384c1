package verify_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/fetch"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/image/verify"
)

// fetched puts a small ACI into a new store.
func fetched(t *testing.T) (*store.Store, *store.Image) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, text string) {
		h.Size = int64(len(text))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "manifest", Mode: 0o644},
		`{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/app"}`)
	add(tar.Header{Name: "rootfs/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "rootfs/file", Mode: 0o640, Uid: 7, Gid: 8}, "content")
	add(tar.Header{Name: "rootfs/dir/", Typeflag: tar.TypeDir, Mode: 0o700}, "")
	add(tar.Header{Name: "rootfs/link", Typeflag: tar.TypeSymlink, Linkname: "file", Mode: 0o777}, "")
	add(tar.Header{Name: "rootfs/same", Typeflag: tar.TypeLink, Linkname: "rootfs/file", Mode: 0o640, Uid: 7, Gid: 8},
		"")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "app.aci")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(filepath.Join(dir, "rkt"))
	if err != nil {
		t.Fatal(err)
	}
	ref, err := image.ParseReference(file)
	if err != nil {
		t.Fatal(err)
	}
	id, err := fetch.Fetch(t.Context(), s, ref, fetch.Options{PullPolicy: fetch.New, InsecureImage: true})
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Image(id)
	if err != nil {
		t.Fatal(err)
	}
	return s, img
}

// An image is whole until something of a file changes, and then it is said what.
func TestImage(t *testing.T) {
	for _, c := range []struct{ change, want string }{
		{"true", ""},
		{"printf CONTENT >file", `"file": other content`},
		{"printf more >>file", `"file": has 11 bytes, not 7`},
		{"chmod 600 file", `"file": mode 0600, not 0640`},
		{"chown 9:8 file", `"file": owner 9:8, not 7:8`},
		{"touch -h -d @77 link", `"link": time 77.000000000, not 0.000000000`},
		{"ln -sfn dir link", `"link": link to "dir", not "file"`},
		{"rm same", `"same": is missing`},
		{"rm same; cp -p file same", `"same": is not the same file as "file"`},
		{"rmdir dir; touch dir", `"dir": is a file, not a directory`},
		{"touch new", `"new": is not of the image`},
		{"setfattr -n user.x -v y file", `"file": attribute user.x is not of the image`},
	} {
		t.Run(c.change, func(t *testing.T) {
			s, img := fetched(t)
			cmd := exec.Command("sh", "-ec", c.change)
			cmd.Dir = s.LayerPath(img.ID)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var problems []string
			whole, err := verify.New(s, func(p string) { problems = append(problems, p) }).Image(t.Context(), img)
			if err != nil || whole != (c.want == "") || !strings.Contains(strings.Join(problems, "\n"), c.want) ||
				whole && problems != nil {
				t.Errorf("whole: %v, %v, %q; want %q", whole, err, problems, c.want)
			}
		})
	}
}

// What the store has beside the files is not believed: neither its manifest nor its recipe.
func TestStoreIsNotBelieved(t *testing.T) {
	s, img := fetched(t)
	img.Manifest.Name = "example.com/other"
	var problems []string
	whole, err := verify.New(s, func(p string) { problems = append(problems, p) }).Image(t.Context(), img)
	if whole || err != nil || fmt.Sprint(problems) != "[manifest: another one than in the ACI]" {
		t.Errorf("whole: %v, %v, %q", whole, err, problems)
	}
	img.Manifest.Name = "example.com/app"
	if err := os.WriteFile(s.LayerFile(img.ID, "recipe"), []byte("no recipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	problems = nil
	whole, err = verify.New(s, func(p string) { problems = append(problems, p) }).Image(t.Context(), img)
	if whole || err != nil || !strings.Contains(strings.Join(problems, "\n"), "damaged recipe") {
		t.Errorf("whole: %v, %v, %q", whole, err, problems)
	}
}

// A layer that is wrong everywhere is not told of everywhere, and a layer is looked at once.
func TestManyProblems(t *testing.T) {
	s, img := fetched(t)
	for i := range 100 {
		if err := os.WriteFile(filepath.Join(s.LayerPath(img.ID), fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	problems := 0
	last := ""
	v := verify.New(s, func(p string) { problems++; last = p })
	for range 2 {
		if whole, err := v.Image(t.Context(), img); whole || err != nil {
			t.Fatal(whole, err)
		}
	}
	if problems != 21 || !strings.Contains(last, "more") {
		t.Errorf("%d lines, the last: %s", problems, last)
	}
}
