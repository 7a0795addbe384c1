package systree

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// systemd are programs that a tree in a test has.
var systemd = []Program{
	{Path: "/usr/bin/systemd-nspawn"}, {Path: "/usr/lib/systemd/systemd"},
	{Path: "/usr/lib/systemd/systemd-executor", Optional: true},
	{Path: "/usr/lib/systemd/systemd-journald"}, {Path: "/usr/lib/systemd/systemd-shutdown"},
	{Path: "/usr/lib/os-release"},
}

// use returns the directory of the tree that Use finds or makes.
func use(t *testing.T, trees Trees, programs []Program) string {
	t.Helper()
	var dir string
	if err := trees.Use(programs, func(d string) error { dir = d; return nil }); err != nil {
		t.Fatal(err)
	}
	return dir
}

// nothing is what a program notes that has no pod.
func nothing(string) error { return nil }

// files are the paths in a tree, with what a link leads to.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if d.Type()&os.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			name += " -> " + target
		}
		list = append(list, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// roots are the machine's own root and the trees of other releases that "make releases" has made,
// by code name.
func roots(t *testing.T) map[string]string {
	t.Helper()
	dirs := []string{"/"}
	if releases := os.Getenv("RKT_RELEASES"); releases != "" {
		more, err := filepath.Glob(filepath.Join(releases, "*/usr/lib/systemd"))
		if err != nil || len(more) == 0 {
			t.Fatalf("%s: no trees of releases: %v", releases, err)
		}
		for _, dir := range more {
			dirs = append(dirs, strings.TrimSuffix(dir, "/usr/lib/systemd"))
		}
	}
	found := map[string]string{}
	for _, dir := range dirs {
		text, err := os.ReadFile(filepath.Join(dir, "usr/lib/os-release"))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "VERSION_CODENAME=")
		name, _, _ := strings.Cut(rest, "\n")
		found[name] = dir
	}
	return found
}

// A tree has what a list says, on the releases whose library names are settled; and what the loader
// of that release finds in it, with the tree as its root, is there.
func TestPrograms(t *testing.T) {
	for release, root := range roots(t) {
		t.Run(release, func(t *testing.T) {
			dir := use(t, Trees{filepath.Join(t.TempDir(), "systemd"), root}, systemd)
			got := strings.Join(files(t, dir), "\n") + "\n"
			if want, err := os.ReadFile("testdata/" + release); err == nil && got != string(want) {
				t.Errorf("the tree has\n%s\nwant\n%s", got, want)
			}
			loader, libraries, err := Loader(dir)
			if err != nil ||
				!slices.Contains(libraries, filepath.Dir(strings.TrimPrefix(resolved(t, dir, loader), "/"))) {
				t.Fatalf("loader %q, libraries %v, %v", loader, libraries, err)
			}
			mapped := map[string]bool{}
			for _, p := range systemd {
				if _, err := os.Lstat(filepath.Join(dir, p.Path)); p.Optional && err != nil ||
					p.Path == "/usr/lib/os-release" {
					continue
				}
				for _, library := range list(t, dir, "/"+loader, p.Path) {
					mapped[filepath.Base(library)] = true
				}
				if !strings.HasPrefix(p.Path, "/usr/bin/") { // to systemd-journald --version is the name of a namespace
					continue
				}
				// From outside, by the loader and the directories, with nothing of the host's in
				// the way.
				cmd := exec.Command(filepath.Join(dir, loader), filepath.Join(dir, p.Path), "--version")
				cmd.Env = []string{"LD_LIBRARY_PATH=" + dir + "/" + strings.Join(libraries, ":"+dir+"/")}
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s --version: %v\n%s", p.Path, err, out)
				}
			}
			if release != "bookworm" { // whose systemd says nothing of what it opens with dlopen(3)
				return
			}
			for _, file := range files(t, filepath.Join(dir, "usr/lib/x86_64-linux-gnu")) {
				if name := filepath.Base(file); !mapped[name] {
					t.Errorf("%s is loaded by no program", name)
				}
			}
		})
	}
}

// list is what a loader finds for a program in a root: it prints "NAME => PATH (ADDRESS)".
func list(t *testing.T, root, loader, program string) (libraries []string) {
	t.Helper()
	cmd := exec.Command(loader, "--list", program)
	cmd.SysProcAttr, cmd.Dir = &syscall.SysProcAttr{Chroot: root}, "/"
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "not found") {
		t.Fatalf("%s --list %s: %v\n%s", loader, program, err, out)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 1 && !strings.HasPrefix(fields[0], "linux-vdso") {
			libraries = append(libraries, fields[max(0, slices.Index(fields, "=>")+1)])
		}
	}
	return libraries
}

func resolved(t *testing.T, dir, name string) string {
	t.Helper()
	real, err := (&finder{root: dir, entries: map[string]entry{}}).real("/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return real
}

// write makes a file below a directory; one whose text begins with "-> " is a link, and with "= " a
// copy of a file.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	if target, ok := strings.CutPrefix(text, "-> "); ok {
		err = os.Symlink(target, path)
	} else if from, ok := strings.CutPrefix(text, "= "); ok {
		_, _, err = copyFile(from, path)
	} else {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A root as other distributions have it: /usr is not merged, a library is in a directory that only
// ld.so.conf names, with a variant for newer CPUs, another one is of another architecture, and
// links are absolute.
func TestOtherLayouts(t *testing.T) {
	libraries := map[string]string{}
	var loader string
	for _, path := range list(t, "/", "/lib64/ld-linux-x86-64.so.2", "/bin/ls") {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			t.Fatal(err)
		}
		libraries[filepath.Base(path)] = real
		if strings.HasPrefix(filepath.Base(path), "ld-linux") {
			loader = real
		}
	}
	root := t.TempDir()
	write(t, root, "bin/ls", "= /bin/ls")
	write(t, root, "lib64/ld-linux-x86-64.so.2", "-> /lib/here/ld.so")
	write(t, root, "lib/here/ld.so", "= "+loader)
	for name, path := range libraries {
		dir := "usr/lib/x86_64-linux-gnu"
		if name == "libselinux.so.1" {
			dir = "opt/real"
			write(t, root, "opt/lib/"+name, "-> /opt/real/"+name)
			write(t, root, "opt/lib/glibc-hwcaps/x86-64-v3/"+name, "= "+path)
			write(t, root, "usr/lib/"+name, "\x7fELF\x01\x01\x01 cut short")
		}
		write(t, root, dir+"/"+name, "= "+path)
	}
	write(t, root, "etc/ld.so.conf", "# all\ninclude ld.so.conf.d/*.conf\n/usr/lib/x86_64-linux-gnu\n")
	write(t, root, "etc/ld.so.conf.d/a.conf", "/opt/lib\n")
	programs := []Program{{Path: "/usr/bin/ls", Source: "/bin/ls"}}
	trees := Trees{filepath.Join(t.TempDir(), "systemd"), root}
	if err := os.Mkdir(filepath.Join(root, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := trees.Use(programs, nothing); !testkit.Says(err, "libselinux.so.1") {
		t.Errorf("a file that is no library: %v", err)
	}
	if err := os.Remove(filepath.Join(root, "usr/lib/libselinux.so.1")); err != nil {
		t.Fatal(err)
	}
	dir := use(t, trees, programs)
	got := files(t, dir)
	for _, want := range []string{
		"usr/bin/ls", "lib/here/ld.so", "lib/here/libselinux.so.1", "lib/here/glibc-hwcaps/x86-64-v3/libselinux.so.1",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %v", want, got)
		}
	}
	if _, libraries, err := Loader(dir); err != nil || !slices.Contains(libraries, "lib/here") {
		t.Errorf("%v, %v", libraries, err)
	}
	cmd := exec.Command(filepath.Join(dir, "lib64/ld-linux-x86-64.so.2"), filepath.Join(dir, "usr/bin/ls"), "/")
	cmd.Env = []string{"LD_LIBRARY_PATH=" + dir + "/lib/here:" + dir + "/usr/lib/x86_64-linux-gnu"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	os.Remove(filepath.Join(root, "opt/real/libselinux.so.1"))
	os.RemoveAll(filepath.Join(root, "opt/lib"))
	err := trees.Use(programs, nothing)
	want := "systemd: /bin/ls needs libselinux.so.1"
	if !testkit.Says(err, want) {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestReal(t *testing.T) {
	root := t.TempDir()
	write(t, root, "usr/lib/file", "x")
	for name, target := range map[string]string{
		"lib": "usr/lib", "abs": "/usr/lib", "up": "../../../usr/lib", "usr/loop": "loop", "usr/twice": "../lib",
	} {
		write(t, root, name, "-> "+target)
	}
	for path, want := range map[string]string{
		"/usr/lib/file": "/usr/lib/file", "/lib/file": "/usr/lib/file",
		"/abs/file": "/usr/lib/file", "/up/file": "/usr/lib/file",
		"/usr/twice/file": "/usr/lib/file", "/usr/twice/../lib/./file": "/usr/lib/file", "/lib": "/usr/lib",
		"/usr/loop/file": "error", "/usr/loop": "error", "/none": "error",
	} {
		f := &finder{root: root, entries: map[string]entry{}}
		got, err := f.real(path)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %s (%v), want %s", path, got, err, want)
		}
		for _, e := range f.sorted() {
			if filepath.IsAbs(e.link) || !filepath.IsLocal(filepath.Join(filepath.Dir(e.path), e.link)) {
				t.Errorf("%s: the link %s -> %s leads out of the tree", path, e.path, e.link)
			}
		}
	}
}

// plain is a root with files that need no loader.
func plain(t *testing.T) (Trees, []Program) {
	t.Helper()
	root := t.TempDir()
	write(t, root, "usr/lib/one", "1")
	write(t, root, "usr/lib/two", "2")
	programs := []Program{{Path: "/usr/lib/one"}, {Path: "/usr/lib/two"}, {Path: "/usr/lib/three", Optional: true}}
	return Trees{filepath.Join(t.TempDir(), "systemd"), root}, programs
}

// While nothing has changed a tree is found, the same content is the same tree, and one byte at the
// same path is another.
func TestIdentity(t *testing.T) {
	trees, programs := plain(t)
	first := use(t, trees, programs)
	same := func(what string, want bool) string {
		t.Helper()
		dir := use(t, trees, programs)
		if (dir == first) != want {
			t.Errorf("%s: %s, the first was %s", what, dir, first)
		}
		return dir
	}
	same("as it was", true)
	one := filepath.Join(trees.root, "usr/lib/one")
	before, err := os.ReadFile(filepath.Join(first, sourcesFile))
	if err != nil {
		t.Fatal(err)
	}
	write(t, trees.root, "usr/lib/new", "1")
	if err := os.Rename(filepath.Join(trees.root, "usr/lib/new"), one); err != nil {
		t.Fatal(err)
	}
	same("reinstalled", true)
	if after, err := os.ReadFile(filepath.Join(first, sourcesFile)); err != nil || string(after) == string(before) {
		t.Errorf("the identities are the old ones: %s, %v", after, err)
	}
	info, err := os.Stat(one)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(one, []byte("0"), 0o644); err != nil { // the same size in the same inode,
		t.Fatal(err)
	}
	if err := os.Chtimes(one, info.ModTime(), info.ModTime()); err != nil { // and the same time of modification
		t.Fatal(err)
	}
	second := same("a byte is another", false)
	if text, err := os.ReadFile(filepath.Join(second, "usr/lib/one")); err != nil || string(text) != "0" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := os.ReadFile(filepath.Join(first, "usr/lib/one")); err != nil || string(text) != "1" {
		t.Errorf("the first tree has %q, %v", text, err)
	}
	write(t, trees.root, "usr/lib/three", "3")
	if third := use(t, trees, programs); third == second {
		t.Error("a file that was not there before is not in the tree")
	}
	write(t, trees.root, "usr/lib/four", "4")
	more := use(t, trees, append(programs, Program{Path: "/usr/lib/4", Source: "/usr/lib/four"}))
	if !exists(more + "/usr/lib/4") {
		t.Error("another list of programs has the tree of the first")
	}
	for _, dir := range []string{first, second} { // no hard link
		if info, err := os.Stat(filepath.Join(dir, "usr/lib/one")); err != nil ||
			info.Sys().(*syscall.Stat_t).Nlink != 1 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Many at once make one tree, and what a killed one has left is gone.
func TestAtOnce(t *testing.T) {
	trees := Trees{filepath.Join(t.TempDir(), "systemd"), "/"}
	write(t, trees.dir, newPrefix+"killed/usr/lib/file", "half")
	var all sync.WaitGroup
	dirs := make([]string, 8)
	for i := range dirs {
		all.Go(func() {
			err := trees.Use(systemd, func(dir string) error { dirs[i] = dir; return nil })
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	entries, err := os.ReadDir(trees.dir)
	dirs = slices.Compact(dirs)
	if err != nil || len(entries) != 1 || len(dirs) != 1 || dirs[0] != filepath.Join(trees.dir, entries[0].Name()) {
		t.Errorf("%v in %v, %v", dirs, entries, err)
	}
}

// What changes all the time is not copied, and nothing is left.
func TestChanging(t *testing.T) {
	trees, programs := plain(t)
	if err := os.Truncate(filepath.Join(trees.root, "usr/lib/two"), 64<<20); err != nil { // so that it takes a while
		t.Fatal(err)
	}
	stop, begun := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for i := 0; ; i++ {
			if i == 1 {
				close(begun)
			}
			select {
			case <-stop:
				return
			default:
				at := time.Unix(int64(i), 0)
				os.Chtimes(filepath.Join(trees.root, "usr/lib/one"), at, at)
			}
		}
	})
	<-begun
	err := trees.Use(programs, nothing)
	close(stop)
	all.Wait()
	want := "being replaced; try again"
	if !testkit.Says(err, want) {
		t.Errorf("%v, want %s", err, want)
	}
	if entries, err := os.ReadDir(trees.dir); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// Removed is what no pod lies on and what the host has no longer, and nothing while somebody is
// about to use it.
func TestSweep(t *testing.T) {
	trees, programs := plain(t)
	var dirs []string
	for i := range 3 {
		write(t, trees.root, "usr/lib/one", fmt.Sprint(i))
		dirs = append(dirs, use(t, trees, programs))
	}
	write(t, trees.dir, newPrefix+"killed/file", "")
	write(t, trees.dir, oldPrefix+"killed/file", "")
	none := func() (map[string]bool, error) { return nil, nil }
	lock, err := durable.Share(trees.dir)
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := trees.Sweep(none); err != nil || removed != nil || !exists(dirs[0]) {
		t.Errorf("while another program looks: %v, %v", removed, err)
	}
	lock.Close()
	unknown := func() (map[string]bool, error) { return nil, os.ErrPermission }
	if _, err := trees.Sweep(unknown); err == nil || !exists(dirs[0]) {
		t.Errorf("who uses what is unknown: %v", err)
	}
	second := func() (map[string]bool, error) { return map[string]bool{filepath.Base(dirs[1]): true}, nil }
	removed, err := trees.Sweep(second)
	if err != nil || !slices.Equal(removed, []string{filepath.Base(dirs[0])}) {
		t.Errorf("%v, %v", removed, err)
	}
	entries, err := os.ReadDir(trees.dir)
	if err != nil || len(entries) != 2 || exists(dirs[0]) || !exists(dirs[1]) || !exists(dirs[2]) {
		t.Errorf("left: %v, %v", entries, err)
	}
	if removed, err := In(t.TempDir()).Sweep(none); err != nil || removed != nil {
		t.Errorf("a data directory without trees: %v, %v", removed, err)
	}
}
