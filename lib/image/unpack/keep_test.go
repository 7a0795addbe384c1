package unpack

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/image/recipe"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func restored(dir string, root *os.File) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, RecipeFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	err = recipe.Restore(&b, f, root, nil)
	return b.Bytes(), err
}

// gnu makes an archive with the machine's own tar.
func gnu(t *testing.T, script string, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("sh", "-ec", script+`; exec tar "$@" -c .`, "-")
	cmd.Args, cmd.Dir = append(cmd.Args, args...), dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return out
}

// An archive comes back to the byte, whatever it does to its own files.
func TestKeep(t *testing.T) {
	long := strings.Repeat("content ", 100_000)
	holes := `truncate -s 3M holes; printf middle | dd of=holes conv=notrunc bs=1M seek=1 status=none; printf x ` +
		`>>holes; ln holes link; setfattr -n user.a -v b holes || true`
	aci := Options{Subtree: "rootfs", MarkImplied: true, Outside: func(_ string, _ *tar.Header, r io.Reader) error {
		_, err := io.CopyN(io.Discard, r, 3) // less than all of it
		if err == io.EOF {
			err = nil
		}
		return err
	}}
	oci := Options{Whiteouts: true}
	for _, c := range []struct {
		name    string
		options Options
		stream  []byte
	}{
		{"nothing", oci, archive(t)},
		{"files", oci, archive(t, "dir d", "file d/a = "+long, "link b -> d/a", "file d/c", "symlink l -> d",
			"file l/x = through a link", "char z", "fifo f")},
		{"a name twice", oci, archive(t, "file a = "+long, "file a = two", "file a", "file a = four")},
		{"the same twice", oci, archive(t, "file a = one", "file a = one")},
		{"a file over directories", oci, archive(t, "file d/e/f = "+long, "file d/g = y", "file d = 1", "dir d",
			"file d/e/f = other")},
		{"a link over a directory", oci, archive(t, "dir other", "file d/x = old", "symlink d -> other",
			"file d/x = new")},
		{"a directory over a link", oci, archive(t, "dir b", "symlink a -> b", "file a/x = old", "dir a",
			"file a/x = new")},
		{"a link takes the name", oci, archive(t, "file a = one", "file b = two", "link a -> b")},
		{"a link keeps the content", oci, archive(t, "file a = one", "link b -> a", "file a = two")},
		{"whiteouts", oci, archive(t, "file .wh.a = with content", "file b/.wh..wh..opq = "+long, "file c = x",
			"file .wh.c")},
		{"padding", oci, append(archive(t, "file a = x"), make([]byte, 100_000)...)},
		{"rubbish after the end", oci, append(archive(t, "file a = x"), long...)},
		{"an ACI", aci, archive(t, "file manifest = {}{}{}", "file rootfs/a/b = "+long, "file rootfs/a/b = "+long+"x",
			"dir rootfs")},
		{"GNU's sparse files", oci, gnu(t, holes, "--sparse", "--format=gnu")},
		{"PAX's, 0.0", oci, gnu(t, holes, "--format=posix", "--sparse", "--sparse-version=0.0")},
		{"PAX's, 0.1", oci, gnu(t, holes, "--format=posix", "--sparse", "--sparse-version=0.1")},
		{"PAX's, 1.0", oci, gnu(t, holes, "--format=posix", "--sparse", "--sparse-version=1.0")},
		{"old ones", oci, gnu(t, `head -c 20000 /dev/zero >x`, "--format=v7")},
		{"long names", oci, gnu(t, `mkdir -p `+strings.Repeat("directory/", 60)+`; echo x >`+
			strings.Repeat("directory/", 60)+`file`, "--format=gnu")},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, unchanged := sandbox(t)
			dir := t.TempDir()
			if err := Keep(dir, root, bytes.NewReader(c.stream), c.options); err != nil {
				t.Fatal(err)
			}
			again, err := restored(dir, root)
			if err != nil || !bytes.Equal(again, c.stream) {
				t.Errorf("%d bytes, not %d: %v", len(again), len(c.stream), err)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
				t.Errorf("left over: %v %v", entries, err)
			}
			if err := unchanged(); err != nil {
				t.Error(err)
			}
			plain, _ := sandbox(t)
			if err := Tar(plain, bytes.NewReader(c.stream), c.options); err != nil {
				t.Fatal(err)
			}
			if got, want := list(t, root.Name()), list(t, plain.Name()); !slices.Equal(got, want) {
				t.Errorf("another tree than without a recipe:\n%.1000q\n%.1000q", got, want)
			}
			info, err := os.Stat(filepath.Join(dir, RecipeFile))
			if err != nil || info.Size() > 8192 {
				t.Errorf("the recipe has %d bytes: %v", info.Size(), err)
			}
		})
	}
}

// A recipe tells which file is another one.
func TestRestoreTells(t *testing.T) {
	for _, c := range []struct{ change, want string }{
		{`printf 12X45 >a/b`, `"a/b": other content`},
		{`printf 123456 >a/b`, `"a/b": has 6 bytes, not 5`},
		{`rm a/b`, `"a/b": is missing`},
		{`rm a/b; ln -s ../c a/b`, `"a/b": too many levels of symbolic links`},
		{`rm a/b; mkfifo a/b`, `"a/b": has 0 bytes, not 5`},
		{`rm -r a; ln -s ../outside a`, `"a/b": invalid cross-device link`},
		{`rm a/b; mkdir a/b`, `"a/b": has`},
	} {
		root, _ := sandbox(t)
		dir := t.TempDir()
		if err := Keep(dir, root, bytes.NewReader(archive(t, "file a/b = 12345", "file c = 12345")),
			Options{}); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-ec", c.change)
		cmd.Dir = root.Name()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %s", c.change, out)
		}
		if _, err := restored(dir, root); !testkit.Says(err, c.want) {
			t.Errorf("%s: %v, want %s", c.change, err, c.want)
		}
	}
}

// FuzzRestore has the recipe be anything: an end or an error, and nothing is read outside of the
// directory.
func FuzzRestore(f *testing.F) {
	var b bytes.Buffer
	w := recipe.NewWriter(&b)
	w.Raw([]byte("header"))
	w.File("f", 4, recipe.Checksum(0, []byte("text")))
	w.File("../outside/sentinel", 9, recipe.Checksum(0, []byte("untouched")))
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:b.Len()/2])
	f.Add([]byte("R"))
	f.Fuzz(func(t *testing.T, text []byte) {
		root, _ := sandbox(t)
		if err := os.WriteFile(filepath.Join(root.Name(), "f"), []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
		var out limited
		_ = recipe.Restore(&out, bytes.NewReader(text), root, nil)
		if bytes.Contains(out.Bytes(), []byte("untouched")) {
			t.Error("read outside")
		}
	})
}

type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len() > 1<<20 {
		return 0, errors.New("enough")
	}
	return l.Buffer.Write(p)
}
