package unpack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/testkit"
	"golang.org/x/sys/unix"
)

var when = time.Unix(1_600_000_000, 123456789)

// entry is an entry of an archive in a test, in the form "TYPE NAME [-> TARGET] [= TEXT]".
func header(t testing.TB, s string) (*tar.Header, string) {
	t.Helper()
	kind, rest, _ := strings.Cut(s, " ")
	rest, text, _ := strings.Cut(rest, " = ")
	name, target, _ := strings.Cut(rest, " -> ")
	h := &tar.Header{Name: name, Linkname: target, Mode: 0o644, ModTime: when, Format: tar.FormatPAX,
		Size: int64(len(text))}
	switch kind {
	case "file":
		h.Typeflag = tar.TypeReg
	case "dir":
		h.Typeflag, h.Mode = tar.TypeDir, 0o755
	case "symlink":
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
	case "link":
		h.Typeflag = tar.TypeLink
	case "char":
		h.Typeflag = tar.TypeChar
	case "fifo":
		h.Typeflag = tar.TypeFifo
	default:
		t.Fatalf("%q", s)
	}
	return h, text
}

func archive(t testing.TB, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, s := range entries {
		h, text := header(t, s)
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sandbox has a directory to unpack into, and beside it what must not change.
func sandbox(t testing.TB) (root *os.File, unchanged func() error) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("unpacking needs root")
	}
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(dir+"/root", 0o755))
	must(os.Mkdir(dir+"/outside", 0o755))
	must(os.WriteFile(dir+"/outside/sentinel", []byte("untouched"), 0o600))
	root, err := os.Open(dir + "/root")
	must(err)
	t.Cleanup(func() { root.Close() })
	before, err := snapshot(dir, "/root")
	must(err)
	return root, func() error {
		after, err := snapshot(dir, "/root")
		if err == nil && before != after {
			err = fmt.Errorf("outside changed\nfrom %s\nto %s", before, after)
		}
		return err
	}
}

// snapshot writes down everything below dir but what is in skip.
func snapshot(dir, skip string) (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == dir+skip {
			return fs.SkipDir
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		text := ""
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = string(data)
		}
		fmt.Fprintf(&b, "%s %o %d:%d links %d time %v %q\n", path, st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim, text)
		return nil
	})
	return b.String(), err
}

// list writes down a tree, a line for each entry.
func list(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, _ := filepath.Rel(root, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			name = "dir " + name
			value := make([]byte, 8)
			if n, err := unix.Lgetxattr(path, overlay.Opaque, value); err == nil {
				name += " opaque=" + string(value[:n])
			}
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			name = "symlink " + name + " -> " + target
		case unix.S_IFREG:
			data, _ := os.ReadFile(path)
			name = "file " + name
			if len(data) > 0 {
				name += " = " + string(data)
			}
			if st.Nlink > 1 {
				name += fmt.Sprintf(" (%d links)", st.Nlink)
			}
		case unix.S_IFCHR:
			name = fmt.Sprintf("char %s %d:%d", name, unix.Major(st.Rdev), unix.Minor(st.Rdev))
		case unix.S_IFIFO:
			name = "fifo " + name
		}
		lines = append(lines, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestHostile tries to get out. Each archive is unpacked in the place where its root is root/, and
// outside/sentinel beside it.
func TestHostile(t *testing.T) {
	long := strings.Repeat("n", 256)
	for _, c := range []struct {
		name    string
		entries []string
		want    string // the error
	}{
		{"dot-dot", []string{"file ../outside/sentinel = x"}, `entry "../outside/sentinel": .. in the name`},
		{"dot-dot inside", []string{"file a/../../outside/sentinel = x"}, ".. in the name"},
		{"dot-dot at the end", []string{"dir a/.."}, ".. in the name"},
		{"dot-dot alone", []string{"dir .."}, ".. in the name"},
		{"absolute dot-dot", []string{"file /../outside/sentinel = x"}, ".. in the name"},
		{"symlink out, then through it", []string{"symlink l -> ../outside", "file l/sentinel = x"},
			""},
		{"symlink to root, then through it", []string{"symlink l -> /", "file l/etc/x = x"}, ""},
		{"symlink up in steps", []string{"dir a", "symlink a/l -> ..", "symlink a/m -> l/..",
			"file a/m/outside/sentinel = x"}, ""},
		{"symlink to proc", []string{"symlink l -> /proc/self/root", "file l/tmp/x = x"}, ""},
		{"directory through a symlink", []string{"symlink l -> ../outside", "dir l/new"}, ""},
		{"symlink through a symlink", []string{"symlink l -> ../outside", "symlink l/new -> x"}, ""},
		{"device through a symlink", []string{"symlink l -> ../outside", "char l/new"}, ""},
		{"whiteout through a symlink", []string{"symlink l -> ../outside", "file l/.wh.sentinel"}, ""},
		{"opaque through a symlink", []string{"symlink l -> ../outside", "file l/.wh..wh..opq"}, ""},
		{"hard link out", []string{"link x -> ../outside/sentinel"},
			`entry "x": hard link to "../outside/sentinel": .. in the name`},
		{"hard link, absolute", []string{"link x -> /etc/passwd"},
			`entry "x": hard link to "/etc/passwd": no such file or directory`},
		{"hard link through a symlink", []string{"symlink l -> ../outside", "link x -> l/sentinel"},
			`hard link to "l/sentinel": no such file`},
		{"hard link to a symlink, then write", []string{"symlink l -> ../outside/sentinel", "link x -> l",
			"file x = new"}, ""},
		{"hard link into a symlink", []string{"file f", "symlink l -> ../outside", "link l/x -> f"}, ""},
		{"hard link to a directory", []string{"dir d", "link x -> d"}, "operation not permitted"},
		{"hard link to the root", []string{"link x -> /"}, `hard link to "/": no such file`},
		{"file over a symlink", []string{"symlink l -> ../outside/sentinel", "file l = new"}, ""},
		{"directory over a symlink", []string{"symlink l -> ../outside", "dir l", "file l/sentinel = new"}, ""},
		{"symlink over a directory", []string{"dir d", "file d/x", "symlink d -> ../outside", "file d/sentinel = x"},
			""},
		{"symlink over a directory kept open", []string{"file d/e/x", "symlink d -> ../outside", "file d/e/x = x"}, ""},
		{"symlink over a directory, its time", []string{"dir d", "symlink d -> ../outside"}, ""},
		{"symlink that points nowhere", []string{"symlink l -> gone", "file l/x"}, ""},
		{"symlink loop", []string{"symlink l -> l", "file l/x"}, "too many levels"},
		{"file as a directory", []string{"file f", "file f/x"}, `directory "f": not a directory`},
		{"whiteout of dot-dot", []string{"file .wh..."}, `entry ".wh...": hides no name`},
		{"whiteout of dot", []string{"file .wh.."}, "hides no name"},
		{"whiteout of nothing", []string{"file .wh."}, "hides no name"},
		{"whiteout of dot-dot below", []string{"file a/.wh..."}, "hides no name"},
		{"whiteout as a directory", []string{"file .wh.a/b"}, `".wh.a" ... can hold nothing`},
		{"whiteout as a directory, a directory", []string{"dir .wh.a", "file .wh.a/../x"}, ".. in the name"},
		{"long name", []string{"file " + long}, "file name too long"},
		{"long directory", []string{"file " + long + "/x"}, "file name too long"},
		{"long path", []string{"file " + strings.Repeat("d/", 2100) + "x"}, "file name too long"},
		{"root is a file", []string{"file ."}, "root is not"},
		{"root is a symlink", []string{"symlink ./ -> ../outside"}, "root is not"},
		{"root is a hard link", []string{"link / -> ../outside"}, "root is not"},
		{"empty symlink", []string{"symlink l -> "}, "symbolic link: "},
		{"absolute name", []string{"file /outside/sentinel = new"}, ""},
		{"many slashes", []string{"file //outside///./sentinel = new"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, unchanged := sandbox(t)
			err := Tar(root, bytes.NewReader(archive(t, c.entries...)), Options{Whiteouts: true})
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case !testkit.Says(err, c.want):
				t.Errorf("error %v, want %s", err, c.want)
			}
			if err := unchanged(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHostileHeaders are entries that Go's own writer does not make of a line.
func TestHostileHeaders(t *testing.T) {
	xattr := func(name string) map[string]string { return map[string]string{"SCHILY.xattr." + name: "v"} }
	for _, c := range []struct {
		h    tar.Header
		want string
	}{
		{tar.Header{Typeflag: tar.TypeReg, Name: "x", PAXRecords: xattr("trusted.overlay.redirect")},
			"attribute trusted.overlay.redirect: not from an archive"},
		{tar.Header{Typeflag: tar.TypeDir, Name: "x", PAXRecords: xattr("trusted.overlay.opaque")},
			"not from an archive"},
		{tar.Header{Typeflag: tar.TypeDir, Name: "x", PAXRecords: xattr("user.overlay.redirect")},
			"not from an archive"},
		{tar.Header{Typeflag: tar.TypeSymlink, Name: "x", Linkname: "y", PAXRecords: xattr("trusted.x")},
			"not from an archive"},
		{tar.Header{Typeflag: tar.TypeSymlink, Name: "x", Linkname: "y", PAXRecords: xattr("user.x")},
			"only a file or"},
		{tar.Header{Typeflag: tar.TypeReg, Name: "x", PAXRecords: xattr("security.selinux")}, ""},
		{tar.Header{Typeflag: tar.TypeReg, Name: "x", Uid: math.MaxUint32}, "owner 4294967295:0 cannot be"},
		{tar.Header{Typeflag: tar.TypeReg, Name: "x", Gid: -2, Format: tar.FormatGNU}, "owner 0:-2 cannot be"},
		{tar.Header{Typeflag: tar.TypeChar, Name: "x", Devmajor: -1, Format: tar.FormatGNU}, "device -1:0 cannot be"},
		{tar.Header{Typeflag: 'Z', Name: "x"}, "type 'Z' is unknown"},
		{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, ""},
	} {
		root, unchanged := sandbox(t)
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&c.h); err != nil {
			t.Errorf("%+v: %v", c.h, err)
			continue
		}
		w.Close()
		err := Tar(root, &b, Options{})
		if !testkit.Says(err, c.want) {
			t.Errorf("%+v: %v", c.h, err)
		}
		if err := unchanged(); err != nil {
			t.Error(err)
		}
	}
}

func TestTree(t *testing.T) {
	aci := Options{Subtree: "rootfs", Outside: func(name string, _ *tar.Header, _ io.Reader) error {
		return errors.New("outside " + name)
	}}
	oci := Options{Whiteouts: true}
	for _, c := range []struct {
		name    string
		options Options
		entries []string
		want    []string
	}{
		{"parents", oci, []string{"file a/b/c = 1", "dir a"}, []string{"dir a", "dir a/b", "file a/b/c = 1"}},
		{"the same file again", oci, []string{"file f = 1", "link g -> f", "file f = 2"},
			[]string{"file f = 2", "file g = 1"}},
		{"a directory again", oci, []string{"dir d", "file d/x", "dir d", "dir ./d/"}, []string{"dir d", "file d/x"}},
		{"file over a full directory", oci, []string{"file d/e/x", "file d = 1"}, []string{"file d = 1"}},
		{"directory over a file", oci, []string{"file d = 1", "dir d", "file d/x"}, []string{"dir d", "file d/x"}},
		{"link inside", oci, []string{"dir usr/lib", "symlink lib -> usr/lib", "file lib/x = 1"},
			[]string{"symlink lib -> usr/lib", "dir usr", "dir usr/lib", "file usr/lib/x = 1"}},
		{"link kept open is replaced", oci, []string{"dir b", "symlink a -> b", "file a/x", "dir a", "file a/y"},
			[]string{"dir a", "file a/y", "dir b", "file b/x"}},
		{"links inside, from the root", oci, []string{"symlink var/run -> /run", "dir var/run/app",
			"symlink l -> ../../x/../y", "file l/f", "symlink m -> /gone", "file m/.wh.x"},
			[]string{"dir gone", "char gone/x 0:0", "symlink l -> ../../x/../y", "symlink m -> /gone", "dir run",
				"dir run/app", "dir var", "symlink var/run -> /run", "dir y", "file y/f"}},
		{"texts of links stay", oci, []string{"symlink a -> /etc/passwd", "symlink b -> ../../x",
			"symlink c -> /proc/self/../."},
			[]string{"symlink a -> /etc/passwd", "symlink b -> ../../x", "symlink c -> /proc/self/../."}},
		{"hard links", oci, []string{"file a/f = 1", "link g -> a/f", "link /g -> ./a/f", "link g -> g"},
			[]string{"dir a", "file a/f = 1 (2 links)", "file g = 1 (2 links)"}},
		{"whiteouts", oci, []string{"file a/.wh.x", "file .wh.y", "file .wh.x.wh.y", "file z.wh.z",
			"file b/.wh..wh..opq", "dir b", "file b/x"},
			[]string{"dir a", "char a/x 0:0", "dir b opaque=y", "file b/x", "char x.wh.y 0:0", "char y 0:0",
				"file z.wh.z"}},
		{"whiteouts beside what they name", oci, []string{"file .wh.a", "dir a", "file a/x", "dir b", "file .wh.b",
			"file c", "file .wh.c", "file .wh.d", "file d = 1", "file .wh.e", "file .wh.e", "dir e"},
			[]string{"dir a opaque=y", "file a/x", "dir b opaque=y", "file c", "file d = 1", "dir e opaque=y"}},
		{"aufs", oci, []string{"dir .wh..wh.plnk", "file .wh..wh.plnk/12.34", "file .wh..wh.aufs"}, nil},
		{"aci", aci, []string{"dir rootfs", "file rootfs/.wh.x = 1", "link rootfs/y -> rootfs/.wh.x",
			"file rootfs/rootfs"},
			[]string{"file .wh.x = 1 (2 links)", "file rootfs", "file y = 1 (2 links)"}},
		{"devices", oci, []string{"fifo p", "char c", "file c", "char q"}, []string{"file c", "fifo p", "char q 0:0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, unchanged := sandbox(t)
			if err := Tar(root, bytes.NewReader(archive(t, c.entries...)), c.options); err != nil {
				t.Fatal(err)
			}
			if got := list(t, root.Name()); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if err := unchanged(); err != nil {
				t.Error(err)
			}
		})
	}
	for _, entries := range [][]string{{"file manifests"}, {"file rootfs2/x"}, {"file x"},
		{"file rootfs/f", "link rootfs/x -> f"}} {
		root, _ := sandbox(t)
		if err := Tar(root, bytes.NewReader(archive(t, entries...)), aci); err == nil {
			t.Errorf("%q: unpacked", entries)
		}
	}
}

func TestMetadata(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	root, _ := sandbox(t)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	// VFS_CAP_REVISION_2, cap_net_bind_service permitted and effective
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	headers := []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o1777, Uid: 1, Gid: 2},
		{Typeflag: tar.TypeDir, Name: "d", Mode: 0o2750, Uid: 1 << 31, Gid: 3},
		{Typeflag: tar.TypeReg, Name: "d/suid", Mode: 0o4755, Uid: 12, Gid: 34},
		{Typeflag: tar.TypeReg, Name: "d/implied/cap", Mode: 0o755, Uid: 5, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.k": "v\x00w",
			"SCHILY.xattr.security.selinux": "x"}},
		{Typeflag: tar.TypeSymlink, Name: "d/l", Linkname: "nowhere", Mode: 0o777, Uid: 7, Gid: 8},
		{Typeflag: tar.TypeChar, Name: "d/null", Mode: 0o666, Devmajor: 1, Devminor: 3, Gid: 9},
		{Typeflag: tar.TypeBlock, Name: "d/disk", Mode: 0o660, Devmajor: 259, Devminor: 70000, Gid: 6},
		{Typeflag: tar.TypeFifo, Name: "d/fifo", Mode: 0o6622},
		{Typeflag: tar.TypeReg, Name: "d/none", Mode: 0},
	}
	for _, h := range headers {
		h.ModTime, h.Format = when, tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	if err := Tar(root, &b, Options{Whiteouts: true}); err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(root.Name(), h.Name), &st); err != nil {
			t.Error(err)
			continue
		}
		if int64(st.Mode&0o7777) != h.Mode || st.Uid != uint32(h.Uid) || st.Gid != uint32(h.Gid) ||
			st.Mtim != unix.NsecToTimespec(when.UnixNano()) {
			t.Errorf("%s: mode %o owner %d:%d time %v", h.Name, st.Mode, st.Uid, st.Gid, st.Mtim)
		}
		if h.Devmajor != 0 && st.Rdev != unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)) {
			t.Errorf("%s: device %x", h.Name, st.Rdev)
		}
	}
	var implied unix.Stat_t
	if err := unix.Lstat(root.Name()+"/d/implied", &implied); err != nil || implied.Mode&0o7777 != 0o755 ||
		implied.Gid != 0 {
		t.Errorf("implied directory: %o %d %v", implied.Mode, implied.Gid, err)
	}
	for name, want := range map[string]string{"security.capability": capability, "user.k": "v\x00w"} {
		value := make([]byte, 100)
		n, err := unix.Lgetxattr(root.Name()+"/d/implied/cap", name, value)
		if err != nil || string(value[:n]) != want {
			t.Errorf("%s: %q %v", name, value[:max(n, 0)], err)
		}
	}
}

func TestLimits(t *testing.T) {
	small := archive(t, "file a = 12345", "file b = 12345")
	for _, c := range []struct {
		options Options
		want    string
	}{
		{Options{MaxBytes: int64(len(small)), MaxEntries: 2}, ""},
		{Options{MaxEntries: 1}, "more than 1 entries"},
		{Options{MaxBytes: int64(len(small)) - 1}, "larger than"},
	} {
		root, _ := sandbox(t)
		err := Tar(root, bytes.NewReader(small), c.options)
		if !testkit.Says(err, c.want) {
			t.Errorf("%+v: %v", c.options, err)
		}
	}
	// A sparse file of 1 TiB in an archive of 2 KiB, as GNU tar's PAX format 1.0 has it.
	var sparse bytes.Buffer
	w := tar.NewWriter(&sparse)
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "GNUSparseFile.0/f", Mode: 0o644, Size: 512,
		Format: tar.FormatPAX})
	w.Write(append([]byte("0\n"), make([]byte, 510)...))
	w.Close()
	records := ""
	for _, record := range []string{"major=1", "minor=0", "name=f", "realsize=1099511627776"} {
		record = " GNU.sparse." + record + "\n"
		records += fmt.Sprint(len(record)+2) + record
	}
	h := make([]byte, 512)
	copy(h, "PaxHeaders/f")
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00%011o\x00", len(records), 0))
	copy(h[148:], "        ")
	h[156] = 'x'
	copy(h[257:], "ustar\x0000")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	stream := append(h, append([]byte(records), make([]byte, 512-len(records)%512)...)...)
	stream = append(stream, sparse.Bytes()...)
	root, _ := sandbox(t)
	err := Tar(root, bytes.NewReader(stream), Options{MaxBytes: 1 << 30})
	if !testkit.Says(err, "files are larger than 1073741824 bytes") {
		t.Errorf("sparse file: %v", err)
	}
}

// TestManyFiles is an archive of 100,000 files, in one directory: more than the limit says is
// refused, and what it allows is there.
func TestManyFiles(t *testing.T) {
	const count = 100_000
	archive := func() io.Reader {
		r, w := io.Pipe()
		go func() {
			a := tar.NewWriter(w)
			for i := range count {
				_ = a.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "d/" + strconv.Itoa(i), Mode: 0o644})
			}
			w.CloseWithError(a.Close())
		}()
		return r
	}
	open := func() *os.File {
		root, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { root.Close() })
		return root
	}
	in := archive()
	err := Tar(open(), in, Options{MaxEntries: 1000})
	if !testkit.Says(err, "more than 1000 entries") {
		t.Error(err)
	}
	_ = in.(*io.PipeReader).Close()
	root := open()
	if err := Tar(root, archive(), Options{MaxEntries: count + 1}); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(root.Name() + "/d"); err != nil || len(entries) != count {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

// TestUnpadded has an archive without the end's marker and without the padding of its last file, as
// umoci writes it.
func TestUnpadded(t *testing.T) {
	whole := archive(t, "dir d", "file d/a = y")
	root, _ := sandbox(t)
	if err := Tar(root, bytes.NewReader(whole[:len(whole)-1024-511]), Options{}); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(root.Name(), "d/a")); string(text) != "y" {
		t.Errorf("%q, %v", text, err)
	}
	root, _ = sandbox(t)
	if err := Tar(root, bytes.NewReader(whole[:len(whole)-1024-512]), Options{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("without its content: %v", err)
	}
}

// TestTruncated cuts an archive at many places, between blocks too.
func TestTruncated(t *testing.T) {
	whole := archive(t, "dir d", "file d/a = "+strings.Repeat("x", 700), "file d/b = y")
	content := len(whole) - 1024
	for n := 0; n < content; n += 64 {
		root, unchanged := sandbox(t)
		err := Tar(root, bytes.NewReader(whole[:n]), Options{EndMarker: true})
		if !errors.Is(err, ErrArchive) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
		if err := unchanged(); err != nil {
			t.Error(err)
		}
	}
	cause := errors.New("connection reset")
	root, _ := sandbox(t)
	err := Tar(root, io.MultiReader(bytes.NewReader(whole[:1600]), broken{cause}), Options{})
	if !errors.Is(err, cause) || !errors.Is(err, ErrArchive) {
		t.Error(err)
	}
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// TestDeep makes what is as deep as a name can say, and it must be possible to remove it.
func TestDeep(t *testing.T) {
	root, _ := sandbox(t)
	if err := Tar(root, bytes.NewReader(archive(t, "file "+strings.Repeat("d/", 1500)+"x = 1", "file d = 2")),
		Options{}); err != nil {
		t.Fatal(err)
	}
	if got := list(t, root.Name()); !slices.Equal(got, []string{"file d = 2"}) {
		t.Errorf("%v", got)
	}
	// Deeper than a name can say, through links.
	deep := strings.Repeat("d/", 700)
	for _, entries := range [][]string{
		{"file " + strings.Repeat("d/", 1600) + "x = 1"},
		{"dir " + deep, "symlink a -> " + deep, "dir a/" + deep, "symlink b -> a/" + deep, "file b/" + deep + "x = 1"},
	} {
		root, unchanged := sandbox(t)
		err := Tar(root, bytes.NewReader(archive(t, entries...)), Options{})
		if !testkit.Says(err, "longer than 3072 bytes") ||
			len(err.Error()) > 1000 {
			t.Errorf("too deep: %.2000v", err)
		}
		if err := unchanged(); err != nil {
			t.Error(err)
		}
	}
	// Directories that are only implied count.
	root, _ = sandbox(t)
	if err := Tar(root, bytes.NewReader(archive(t, "file a/b/c/d/x")), Options{MaxEntries: 4}); !testkit.Says(err,
		"more than 4 entries") {
		t.Errorf("implied directories: %v", err)
	}
}

func FuzzTar(f *testing.F) {
	for _, entries := range [][]string{
		{"dir a", "file a/b = text", "symlink a/c -> ../../outside", "file a/c/sentinel = x"},
		{"symlink l -> ../outside/sentinel", "link x -> l", "file x = y"},
		{"file .wh.a", "dir a", "file a/.wh..wh..opq", "file .wh..."},
		{"file rootfs/x", "link rootfs/y -> rootfs/x", "fifo p", "char c", "dir " + strings.Repeat("long/", 60)},
		{"file ../outside/sentinel = x", "file /x = y"},
	} {
		f.Add(archive(f, entries...))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		for _, o := range []Options{
			{Whiteouts: true, MaxBytes: 1 << 20, MaxEntries: 100},
			{Subtree: "rootfs", Outside: func(string, *tar.Header, io.Reader) error { return nil }, MaxBytes: 1 << 20},
		} {
			root, unchanged := sandbox(t)
			kept := t.TempDir()
			if err := Keep(kept, root, bytes.NewReader(stream), o); err == nil {
				if again, err := restored(kept, root); err != nil || !bytes.Equal(again, stream) {
					t.Fatalf("put together again: %d bytes, not %d: %v", len(again), len(stream), err)
				}
			}
			if err := unchanged(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
