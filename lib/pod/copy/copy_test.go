package copy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// make1 makes a tree: a name that ends with "/" is a directory, a text that begins with "-> " a
// link.
func make1(t *testing.T, files map[string]string) *os.File {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		target, isLink := strings.CutPrefix(text, "-> ")
		switch {
		case strings.HasSuffix(name, "/"):
			err = errors.Join(err, os.MkdirAll(path, 0o755))
		case isLink:
			err = errors.Join(err, os.Symlink(target, path))
		default:
			err = errors.Join(err, os.WriteFile(path, []byte(text), 0o640))
		}
		if err != nil {
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

var options = Options{UID: os.Geteuid(), GID: os.Getegid(), Warn: func(string) {}}

// shown is what is in a tree, in one line.
func shown(t *testing.T, root *os.File) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root.Name(), func(path string, d os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root.Name())
		if err != nil || name == "" {
			return err
		}
		switch d.Type() {
		case os.ModeDir:
			name += "/"
		case os.ModeSymlink:
			target, _ := os.Readlink(path)
			name += "->" + target
		case 0:
			text, _ := os.ReadFile(path)
			name += "=" + string(text)
		}
		all = append(all, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// Where files go is what cp -r and podman cp do; links are of their own tree.
func TestCopy(t *testing.T) {
	source := map[string]string{"d/f": "1", "d/s/g": "2", "d/l": "-> /etc/shadow", "f": "3", "toetc": "-> /d",
		"up": "-> ../../../../d/f", "dev": "-> /dev/null"}
	for _, c := range []struct {
		from, to string
		there    map[string]string // besides the file "old"
		want     string            // what is there then, or an error
	}{
		{"/f", "/new", nil, "/new=3 /old=0"},
		{"/f", "/", nil, "/f=3 /old=0"},
		{"/f", "/old", nil, "/old=3"},
		{"/d", "/new", nil, "/new/ /new/f=1 /new/l->/etc/shadow /new/s/ /new/s/g=2 /old=0"},
		{"/d", "/new/", nil, "/new/ /new/f=1 /new/l->/etc/shadow /new/s/ /new/s/g=2 /old=0"},
		{"/d/", "/in", map[string]string{"in/x": "x"},
			"/in/ /in/d/ /in/d/f=1 /in/d/l->/etc/shadow /in/d/s/ /in/d/s/g=2 /in/x=x /old=0"},
		{"/d/.", "/in", map[string]string{"in/x": "x", "in/f": "y"},
			"/in/ /in/f=1 /in/l->/etc/shadow /in/s/ /in/s/g=2 /in/x=x /old=0"},
		{"/toetc/s", "/new", nil, "/new/ /new/g=2 /old=0"},
		{"/up", "/new", nil, "/new=1 /old=0"},
		{"/../../d/f", "/../../new", nil, "/new=1 /old=0"},
		{"/f", "/out/x", map[string]string{"out": "-> ../../../../in", "in/": ""},
			"/in/ /in/x=3 /old=0 /out->../../../../in"},
		{"/f", "/out", map[string]string{"out": "-> /in", "in/": ""}, "/in/ /in/f=3 /old=0 /out->/in"},
		{"/f", "/out", map[string]string{"out": "-> /in/y", "in/": ""}, "/in/ /in/y=3 /old=0 /out->/in/y"},
		// What is merged replaces links and follows none.
		{"/d/.", "/in", map[string]string{"in/f": "-> /old"},
			"/in/ /in/f=1 /in/l->/etc/shadow /in/s/ /in/s/g=2 /old=0"},
		{"/d/.", "/in", map[string]string{"in/s": "-> /elsewhere", "elsewhere/": ""}, "in/s: is not a directory"},
		{"/d/.", "/in", map[string]string{"in/f/": ""}, "in/f: is a directory"},
		{"/d/.", "/in", map[string]string{"in/l/": ""}, "in/l: is a directory"},
		{"/d", "/old", nil, "/old: is not a directory"},
		{"/f/", "/new", nil, "not a directory"},
		{"/f", "/new/", nil, "/new/: no such directory"},
		{"/f", "/old/", nil, "not a directory"},
		{"/f", "/no/such", nil, "no such file"},
		{"/nosuch", "/new", nil, "no such file"},
		{"/dev", "/new", nil, "too many levels"},
		{"/f", "/fifo", nil, "not a regular file"},
	} {
		from, there := make1(t, source), map[string]string{"old": "0"}
		for name, text := range c.there {
			there[name] = text
		}
		to := make1(t, there)
		if c.to == "/fifo" {
			if err := unix.Mkfifo(to.Name()+"/fifo", 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := shown(t, to)
		err := Copy(context.Background(), Place{from, c.from}, Place{to, c.to}, options)
		got := shown(t, to)
		if err != nil {
			if got != before && !strings.Contains(c.from, "/.") {
				t.Errorf("%+v: left %s", c, got)
			}
		}
		if !testkit.Gives(got, err, c.want) || strings.Contains(shown(t, to), ".rkt-") {
			t.Errorf("%+v: got %s, %v", c, got, err)
		}
	}
}

// Modes and times are kept; set-user-ID bits only where that is asked for; fifos are made, and
// sockets left out.
func TestAttributes(t *testing.T) {
	from, to := make1(t, map[string]string{"d/f": "1"}), make1(t, nil)
	file, at := from.Name()+"/d/f", time.Unix(1000, 5)
	if err := errors.Join(os.Chmod(file, 0o751|os.ModeSetuid|os.ModeSetgid), os.Chtimes(file, at, at),
		os.Chmod(from.Name()+"/d", 0o500),
		unix.Mkfifo(from.Name()+"/d/p", 0o640), unix.Mknod(from.Name()+"/d/sock", unix.S_IFSOCK|0o600, 0)); err != nil {
		t.Fatal(err)
	}
	warned := ""
	for name, plain := range map[string]bool{"all": false, "plain": true} {
		o := Options{UID: 12, GID: 34, Plain: plain, Warn: func(s string) { warned = s }}
		if err := Copy(context.Background(), Place{from, "/d"}, Place{to, "/" + name}, o); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		want := uint32(unix.S_IFREG | 0o6751)
		if plain {
			want = unix.S_IFREG | 0o751
		}
		if err := unix.Stat(to.Name()+"/"+name+"/f", &st); err != nil || st.Mode != want || st.Uid != 12 ||
			st.Gid != 34 || st.Mtim.Sec != 1000 {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
		if err := unix.Stat(to.Name()+"/"+name, &st); err != nil || st.Mode != unix.S_IFDIR|0o500 || st.Uid != 12 {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
		if info, err := os.Lstat(to.Name() + "/" + name + "/p"); err != nil ||
			info.Mode()&os.ModeType != os.ModeNamedPipe {
			t.Errorf("fifo: %v, %v", info, err)
		}
		if _, err := os.Lstat(to.Name() + "/" + name + "/sock"); err == nil || warned != "/"+name+
			"/sock: left out: a device or a socket" {
			t.Errorf("socket: %v, %q", err, warned)
		}
	}
}

// An app that swaps directories and files with links and fifos all the time gets nothing copied
// from or to what is outside of its root, and nobody waits for it.
func TestHostile(t *testing.T) {
	outside := make1(t, map[string]string{"secret/f": "secret", "secret/g": "secret"})
	app := make1(t, map[string]string{"top/d/f": "mine", "top/d/g": "mine"})
	host := make1(t, map[string]string{"in/d/f": "host", "in/d/new": "host"})
	d := app.Name() + "/top/d"
	var stop atomic.Bool
	done := make(chan bool)
	go func() {
		defer close(done)
		for i := 0; !stop.Load(); i++ {
			os.Rename(d, d+".real")
			os.Symlink(outside.Name()+"/secret", d)
			os.Remove(d)
			os.Rename(d+".real", d)
			os.Remove(d + "/f")
			switch i % 3 {
			case 0:
				os.Symlink(outside.Name()+"/secret/f", d+"/f")
			case 1:
				unix.Mkfifo(d+"/f", 0o600)
			}
			os.Remove(d + "/f")
			os.WriteFile(d+"/f", []byte("mine"), 0o600)
		}
	}()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		to := make1(t, nil)
		Copy(context.Background(), Place{app, "/top/."}, Place{to, "/"}, options) // may fail
		Copy(context.Background(), Place{app, "/top/d/f"}, Place{to, "/file"}, options)
		filepath.WalkDir(to.Name(), func(path string, e os.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				if text, _ := os.ReadFile(path); strings.Contains(string(text), "secret") {
					t.Fatalf("%s: %s", path, text)
				}
			}
			return nil
		})
		Copy(context.Background(), Place{host, "/in/."}, Place{app, "/top"}, options)
		Copy(context.Background(), Place{host, "/in/d/f"}, Place{app, "/top/d/f"}, options)
	}
	stop.Store(true)
	<-done
	if got := shown(t, outside); got != "/secret/ /secret/f=secret /secret/g=secret" {
		t.Error(got)
	}
}

// One that is interrupted leaves nothing, however deep it is.
func TestInterrupted(t *testing.T) {
	from, to := make1(t, map[string]string{strings.Repeat("d/", 50) + "f": "1"}), make1(t, nil)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("ended by signal"))
	if err := Copy(ctx, Place{from, "/d"}, Place{to, "/d"}, options); err == nil || shown(t, to) != "" {
		t.Errorf("%v, %s", err, shown(t, to))
	}
}

// What users set is kept; a program's capabilities come into an app and not out of it, and what
// overlayfs obeys goes nowhere.
func TestExtendedAttributes(t *testing.T) {
	from := make1(t, map[string]string{"d/f": "1"})
	// cap_net_bind_service=ep
	capabilities := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	for name, value := range map[string]string{"user.a": "x\x00y", "security.capability": capabilities,
		"user.overlay.opaque": "y", "trusted.overlay.opaque": "y"} {
		if err := unix.Setxattr(from.Name()+"/d/f", name, []byte(value), 0); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := unix.Setxattr(from.Name()+"/d", "user.dir", []byte("z"), 0); err != nil {
		t.Fatal(err)
	}
	for plain, want := range map[bool]string{true: "user.a=x\x00y", false: "security.capability=" + capabilities +
		" user.a=x\x00y"} {
		to := make1(t, nil)
		o := Options{UID: 7, GID: 8, Plain: plain, Warn: func(line string) { t.Error(line) }}
		if err := Copy(context.Background(), Place{from, "/d"}, Place{to, "/d"}, o); err != nil {
			t.Fatal(err)
		}
		if got := xattrs(t, to.Name()+"/d/f"); got != want {
			t.Errorf("plain %v: %q, want %q", plain, got, want)
		}
		if got := xattrs(t, to.Name()+"/d"); got != "user.dir=z" {
			t.Errorf("plain %v: directory: %q", plain, got)
		}
	}
}

// xattrs are a file's extended attributes, in order.
func xattrs(t *testing.T, file string) string {
	t.Helper()
	list, value := make([]byte, 1000), make([]byte, 1000)
	n, err := unix.Listxattr(file, list)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 }) {
		n, err := unix.Getxattr(file, name, value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name+"="+string(value[:n]))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
