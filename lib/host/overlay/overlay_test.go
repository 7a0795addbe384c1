package overlay

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// layers makes n layers; layer i has the files i and top, and what is in extra.
func layers(t *testing.T, n int, extra map[string]string) (dir, target string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("mounts need root: run the tests as root")
	}
	base := t.TempDir()
	var paths []string
	for i := range n {
		layer := filepath.Join(base, "layer"+strconv.Itoa(i))
		if err := os.MkdirAll(layer, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{strconv.Itoa(i), "top"} {
			if err := os.WriteFile(filepath.Join(layer, name), []byte(strconv.Itoa(i)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		paths = append(paths, layer)
	}
	for name, target := range extra {
		if err := os.Symlink(target, filepath.Join(paths[0], name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(paths[n-1], 0o711); err != nil {
		t.Fatal(err)
	}
	dir, target = filepath.Join(base, "app"), filepath.Join(base, "target")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Make(dir, paths); err != nil {
		t.Fatal(err)
	}
	return dir, target
}

// An image may have 127 layers, and mount(2) takes 4096 bytes of options.
func TestManyLayers(t *testing.T) {
	dir, target := layers(t, 127, nil)
	err := View(dir, target, func(root *os.File) error {
		for _, want := range []string{"0", "126"} {
			if text, err := ReadFile(root, "/"+want, 10); err != nil || string(text) != want {
				t.Errorf("/%s: %q, %v", want, text, err)
			}
		}
		if text, err := ReadFile(root, "top", 10); err != nil || string(text) != "126" {
			t.Errorf("the topmost layer does not win: %q, %v", text, err)
		}
		if st, err := Stat(root, "/"); err != nil || st.Mode&0o777 != 0o711 {
			t.Errorf("mode of the root: %o, %v", st.Mode, err)
		}
		return MkdirAll(root, "/made/deep", 0o1777)
	})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "upper/made/deep")); err != nil || info.Mode()&os.ModeSticky == 0 ||
		info.Mode().Perm() != 0o777 {
		t.Errorf("a directory that was made: %v, %v", info, err)
	}
	if mounts, err := os.ReadFile("/proc/thread-self/mountinfo"); err != nil ||
		strings.Contains(string(mounts), target) {
		t.Errorf("the mount is visible outside: %v", err)
	}
}

func TestLinksStayInside(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, target := layers(t, 2, map[string]string{
		"absolute": secret, "climb": strings.Repeat("../", 40) + secret, "loop": "loop", "up": "..", "root": "/",
		"proc": "/proc/self/root" + secret,
	})
	err := View(dir, target, func(root *os.File) error {
		for _, path := range []string{"/absolute", "/climb", "/loop", "/up/up" + secret, "/root" + secret, "/proc",
			"../.." + secret} {
			if text, err := ReadFile(root, path, 100); err == nil {
				t.Errorf("%s: read %q", path, text)
			}
		}
		if text, err := ReadFile(root, "/up/root/0", 10); err != nil || string(text) != "0" {
			t.Errorf("a link inside: %q, %v", text, err)
		}
		for _, path := range []string{"/loop/x", "/a/../../x"} {
			if err := MkdirAll(root, path, 0o755); err == nil {
				t.Errorf("MkdirAll %s: no error", path)
			}
		}
		if err := MkdirAll(root, "/climb/x", 0o755); err == nil {
			t.Error("MkdirAll through a link to nothing: no error")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestReadFileLimit(t *testing.T) {
	dir, target := layers(t, 1, nil)
	err := View(dir, target, func(root *os.File) error {
		if _, err := ReadFile(root, "/top", 0); !testkit.Says(err, "larger than 0 bytes") {
			t.Errorf("a file over the limit: %v", err)
		}
		if err := unix.Mkfifoat(int(root.Fd()), "fifo", 0o600); err != nil {
			return err
		}
		if _, err := ReadFile(root, "/fifo", 10); !testkit.Says(err, "not a regular file") {
			t.Errorf("a fifo: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestViewFails(t *testing.T) {
	dir, target := layers(t, 1, nil)
	if err := os.RemoveAll(filepath.Join(dir, "../layer0")); err != nil {
		t.Fatal(err)
	}
	if err := View(dir, target, func(*os.File) error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a layer is missing: %v", err)
	}
}

func TestFollow(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/d", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"abs": "/gone/x", "rel": "d/../gone", "out": "../../../etc",
		"d/up": "../..", "loop": "loop", "two": "abs"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, want := range map[string]string{
		"/": "/", "/d": "/d", "/d/new/deep": "/d/new/deep", "/abs": "/gone/x", "/abs/y": "/gone/x/y", "/rel": "/gone",
		"/two/z": "/gone/x/z", "/out/passwd": "/etc/passwd", "/d/up/d": "/d", "/d/up/../../x": "/x",
	} {
		if got, err := Follow(root, name); got != want || err != nil {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
	if got, err := Follow(root, "/loop/x"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop: %s, %v", got, err)
	}
}
