package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"golang.org/x/sys/unix"
)

// A copy is for what the pod could not tell from the thing itself: files that it can't write to,
// and credentials.
func TestCanCopy(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, size := range map[string]int64{"file": 10, "large": maxCopy + 1, "creds/one": 10, "creds/sub/two": 20,
		"heavy/a": maxCopy, "heavy/b": 1, "odd/file": 1} {
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(at(name), size); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(at("odd/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", at("link")); err != nil {
		t.Fatal(err)
	}
	credentials := func(name string) []string { return []string{"A=b", credentialsVariable + "=" + at(name)} }
	for _, c := range []struct {
		source   string
		readOnly bool
		env      []string
		want     bool
	}{
		{"file", true, nil, true}, {"file", false, nil, false}, {"link", true, nil, true}, {"large", true, nil, false},
		{"absent", true, nil, false}, {"odd/fifo", true, nil, false},
		{"creds", true, nil, false}, {"creds", true, credentials("creds"), true},
		{"creds/sub", true, credentials("creds"), true},
		{"creds", false, credentials("creds"), false}, {"creds", true, credentials("cred"), false},
		{"creds", true, credentials("creds/sub"), false},
		{"creds", true, []string{credentialsVariable + "="}, false},
		{"heavy", true, credentials("heavy"), false}, {"odd", true, credentials("odd"), false},
	} {
		if got := canCopy(fstab.Bind{Source: at(c.source), ReadOnly: c.readOnly}, c.env); got != c.want {
			t.Errorf("%s, read-only %v, %s: %v", c.source, c.readOnly, strings.Join(c.env, " "), got)
		}
	}
}
