package systree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/tree"
	"golang.org/x/sys/unix"
)

// format is the first line of the file sources. A tree of another format is no tree to take, and is
// collected when no pod lies on it.
const format = "1"

// Names in a tree.
const (
	sourcesFile = "sources"
	loaderFile  = "loader"
)

// Prefixes of the names of what is not a tree yet, or not one any more.
const (
	newPrefix = ".new-"
	oldPrefix = ".old-"
)

// Trees are the trees of a data directory.
type Trees struct {
	dir  string
	root string // of the host
}

// In returns the trees of a data directory (rkt's --dir).
func In(data string) Trees { return Trees{filepath.Join(data, "systemd"), "/"} }

// makeTimeout is how long Use waits for other programs that make or remove trees.
const makeTimeout = time.Minute

// Use finds the tree with the programs as the host has them now, or makes it, and calls note with
// its directory. What note leaves must keep the tree from being removed, see Sweep.
func (t Trees) Use(programs []Program, note func(dir string) error) error {
	lock, err := durable.Share(t.dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(t.dir, 0o700); err == nil {
			lock, err = durable.Share(t.dir)
		}
	}
	if err != nil {
		return err
	}
	defer func() { lock.Close() }()
	name, err := t.current(programs)
	if err != nil {
		return err
	}
	if name != "" {
		return note(filepath.Join(t.dir, name))
	}
	lock.Close()
	if lock, err = durable.Lock(t.dir, makeTimeout); err != nil {
		return err
	}
	if name, err = t.current(programs); err == nil && name == "" { // another program may have made it meanwhile
		name, err = t.make(programs)
	}
	if err != nil {
		return fmt.Errorf("copy of the host's systemd: %w", err)
	}
	return note(filepath.Join(t.dir, name))
}

// names are those of the trees.
func (t Trees) names() ([]string, error) {
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// current is the name of a tree that has the programs as they are on the host, or "".
func (t Trees) current(programs []Program) (string, error) {
	names, err := t.names()
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if text, ok := t.fresh(name); ok && covers(text, programs) {
			return name, nil
		}
	}
	return "", nil
}

// fresh reports whether a tree is what its sources are now, and returns the text of its file
// sources.
func (t Trees) fresh(name string) (text string, ok bool) {
	read, err := os.ReadFile(filepath.Join(t.dir, name, sourcesFile))
	if err != nil {
		return "", false
	}
	var paths []string
	lines := strings.Split(strings.TrimSuffix(string(read), "\n"), "\n")
	for _, line := range lines[1:] {
		_, path, _ := strings.Cut(line, " ")
		paths = append(paths, path)
	}
	return string(read), sources(t.root, paths) == string(read)
}

// sources is the text of that file for these paths of a root: a line for each, its identity and the
// path. A path that cannot be read has the identity of one that is not there.
func sources(root string, paths []string) string {
	var text strings.Builder
	text.WriteString(format + "\n")
	for _, path := range paths {
		id := "-"
		var st unix.Stat_t
		if unix.Stat(filepath.Join(root, path), &st) == nil {
			id = fmt.Sprintf("%d:%d:%d:%d.%09d:%d.%09d",
				st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
		}
		fmt.Fprintf(&text, "%s %s\n", id, path)
	}
	return text.String()
}

// covers reports whether a tree with these sources was made for the programs.
func covers(text string, programs []Program) bool {
	for _, p := range programs {
		if !strings.Contains(text, " "+p.source()+"\n") {
			return false
		}
	}
	return true
}

// Sweep removes the trees that nobody uses and that are not what the host has now, and what killed
// programs have left. inUse is called once no program can begin to use a tree, and returns the
// names of those in use. Sweep returns the names of those that it has removed.
func (t Trees) Sweep(inUse func() (map[string]bool, error)) (removed []string, err error) {
	lock, err := durable.Lock(t.dir, 200*time.Millisecond)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, durable.ErrLocked) { // the next call will do it
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	errs := []error{t.sweep()}
	names, err := t.names()
	if err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	used, err := inUse()
	if err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	for _, name := range names {
		if used[name] {
			continue
		}
		if _, ok := t.fresh(name); ok {
			continue
		}
		old := filepath.Join(t.dir, oldPrefix+name)
		if err := os.Rename(filepath.Join(t.dir, name), old); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, name)
		errs = append(errs, tree.Remove(old))
	}
	return removed, errors.Join(errs...)
}

// sweep removes what killed programs have left; the caller holds the exclusive lock.
func (t Trees) sweep() error {
	entries, err := os.ReadDir(t.dir)
	errs := []error{err}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newPrefix) || strings.HasPrefix(e.Name(), oldPrefix) {
			errs = append(errs, tree.Remove(filepath.Join(t.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Loader returns how a program of a tree is run outside of it: the loader, and the directories of
// the libraries in the order of the search, all relative to dir, where the tree is. loader is ""
// for programs that are linked statically.
func Loader(dir string) (loader string, libraries []string, err error) {
	text, err := os.ReadFile(filepath.Join(dir, loaderFile))
	if err != nil {
		return "", nil, err
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	return lines[0], lines[1:], nil
}
