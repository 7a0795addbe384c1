package part

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestPartFolders has the directories of a part be like those that they are taken from.
func TestPartFolders(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("owners need root: run the tests as root")
	}
	from, to := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(from+"/a/b", 0o755))
	must(t, os.WriteFile(from+"/a/b/keep", nil, 0o600))
	must(t, os.WriteFile(from+"/a/drop", nil, 0o600))
	must(t, os.Chown(from+"/a", 1000, 1001))
	must(t, unix.Setxattr(from+"/a", "user.note", []byte("x"), 0))
	when := time.Unix(1e9, 5e8)
	for dir, mode := range map[string]os.FileMode{"/a/b": 0o500, "/a": 0o775 | os.ModeSticky | os.ModeSetgid,
		"": 0o711} {
		must(t, os.Chmod(from+dir, mode))
		must(t, os.Chtimes(from+dir, when, when))
	}
	p := Part{ID: "x", Above: []string{"/a/b/keep"}}
	if hides, err := p.Hides(from); !hides || err != nil {
		t.Errorf("%v %v", hides, err)
	}
	must(t, p.Link(to, func(string) string { return from }))
	for _, dir := range []string{"", "/a", "/a/b"} {
		var x, y unix.Stat_t
		must(t, errors.Join(unix.Lstat(from+dir, &x), unix.Lstat(to+dir, &y)))
		if x.Mode != y.Mode || x.Uid != y.Uid || x.Gid != y.Gid || x.Mtim != y.Mtim {
			t.Errorf("%q: %+v\nnot %+v", dir, y, x)
		}
	}
	value := make([]byte, 10)
	if n, err := unix.Lgetxattr(to+"/a", "user.note", value); err != nil || string(value[:n]) != "x" {
		t.Errorf("%q %v", value, err)
	}
	if entries, _ := os.ReadDir(to + "/a"); len(entries) != 1 {
		t.Errorf("%v", entries)
	}
}
