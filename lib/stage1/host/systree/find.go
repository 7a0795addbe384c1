package systree

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Program is a file of the host that a tree has, with all that its loader needs for it.
type Program struct {
	Path     string // absolute, as it is called in the tree
	Source   string // on the host; "" is Path
	Optional bool   // not every version of systemd has it
}

// entry is a file of a tree, or a symbolic link in it.
type entry struct {
	path   string // in the tree, relative
	source string // on the host, in the root; "" for a link
	link   string // what a link leads to, relative to its directory
}

// finder finds the files of a tree.
type finder struct {
	root    string // of the host: "/" or, in tests, the tree of another release
	entries map[string]entry
	placed  map[string]string // by canonical path in the root: the path in the tree
	asked   []string          // paths that decide what the tree has, absolute in the root, in the order of the search
	conf    []string          // directories of /etc/ld.so.conf

	ldso      string   // the loader, relative; "" of programs that are linked statically
	libraries []string // directories in which the loader finds all libraries of the tree, relative
}

// topLevel are the names in "/" that lead into /usr where that is merged.
var topLevel = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// find returns what a tree of these programs has.
func find(root string, programs []Program) (*finder, error) {
	f := &finder{root: root, entries: map[string]entry{}, placed: map[string]string{}}
	for _, name := range topLevel {
		if _, err := os.Readlink(filepath.Join(root, name)); err != nil {
			continue
		}
		if _, err := f.realDir("/" + name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	f.readConf("/etc/ld.so.conf", 0)
	for _, p := range programs {
		if err := f.add(p); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (p Program) source() string { return cmp.Or(p.Source, p.Path) }

func (f *finder) add(p Program) error {
	source := p.source()
	f.ask(source)
	real, err := f.real(source)
	if p.Optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	o, err := readObject(filepath.Join(f.root, real), real)
	if err != nil {
		return err
	}
	dir, err := f.realDir(path.Dir(p.Path))
	if err != nil {
		return err
	}
	f.place(path.Join(dir, path.Base(p.Path)), real)
	if o == nil {
		return nil
	}
	s := &search{finder: f, program: o, seen: map[string]bool{}}
	if o.loader != "" {
		if err := s.loader(o.loader); err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
	}
	return s.addAll()
}

// ask notes a path on which it depends what the tree has.
func (f *finder) ask(name string) {
	if !slices.Contains(f.asked, name) {
		f.asked = append(f.asked, name)
	}
}

// place puts a file of the root, by its canonical path, into the tree.
func (f *finder) place(name, real string) {
	name = strings.TrimPrefix(name, "/")
	if _, ok := f.entries[name]; ok {
		return
	}
	first, ok := f.placed[real]
	if ok {
		link, _ := filepath.Rel("/"+path.Dir(name), "/"+first) // of two absolute paths it can't fail
		f.entries[name] = entry{path: name, link: link}
		return
	}
	f.placed[real] = name
	f.entries[name] = entry{path: name, source: real}
}

// sorted are the entries in the order of their paths.
func (f *finder) sorted() []entry {
	var list []entry
	for _, e := range f.entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	return list
}

// maxLinks is how many symbolic links may be followed for one path (path_resolution(7)).
const maxLinks = 40

// real resolves a path in the root, where no link leads out of it. Links to directories, which are
// passed, are in the tree as well.
func (f *finder) real(name string) (string, error) {
	at, rest := "/", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		next := rest[0]
		rest = rest[1:]
		if next == "" || next == "." {
			continue
		}
		if next == ".." {
			at = path.Dir(at)
			continue
		}
		here := path.Join(at, next)
		info, err := os.Lstat(filepath.Join(f.root, here))
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = here
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "open", Path: name, Err: unix.ELOOP}
		}
		target, err := os.Readlink(filepath.Join(f.root, here))
		if err != nil {
			return "", err
		}
		if len(rest) > 0 {
			if err := f.directory(here, at, target); err != nil {
				return "", err
			}
		}
		rest = append(strings.Split(target, "/"), rest...)
		if path.IsAbs(target) {
			at = "/"
		}
	}
	return at, nil
}

// realDir is real for a directory, which may be a link itself.
func (f *finder) realDir(name string) (string, error) { return f.real(name + "/.") }

// directory puts a link to a directory into the tree.
func (f *finder) directory(here, dir, target string) error {
	name := strings.TrimPrefix(here, "/")
	if _, ok := f.entries[name]; ok {
		return nil
	}
	if !path.IsAbs(target) {
		target = path.Join(dir, target)
	}
	real, err := f.real(target)
	if err != nil {
		return err
	}
	link, _ := filepath.Rel(dir, real)
	f.entries[name] = entry{path: name, link: link}
	return nil
}

// readConf adds the directories that ldconfig(8) searches. One of a file that can't be read has
// none.
func (f *finder) readConf(name string, depth int) {
	text, err := os.ReadFile(filepath.Join(f.root, name))
	if err != nil || depth > 8 {
		return
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if fields[0] != "include" {
			f.conf = append(f.conf, fields[0])
			continue
		}
		for _, pattern := range fields[1:] {
			if !path.IsAbs(pattern) {
				pattern = path.Join(path.Dir(name), pattern)
			}
			files, _ := filepath.Glob(filepath.Join(f.root, pattern))
			for _, file := range files {
				below, _ := filepath.Rel(f.root, file)
				f.readConf("/"+below, depth+1)
			}
		}
	}
}

// search finds the libraries of one program.
type search struct {
	*finder
	program *object
	queue   []*object       // what is loaded, in this order
	own     string          // directory of the loader and the C library, where the loader looks without being told
	system  []string        // directories where it looks as well
	seen    map[string]bool // libraries by name
}

func (s *search) loader(name string) error {
	s.ask(name)
	real, err := s.real(name)
	if err != nil {
		return err
	}
	dir, err := s.realDir(path.Dir(name))
	if err != nil {
		return err
	}
	s.own = path.Dir(real)
	s.system = []string{s.own, "/lib64", "/usr/lib64", "/lib", "/usr/lib"}
	s.place(real, real)
	s.place(path.Join(dir, path.Base(name)), real)
	if s.ldso == "" {
		s.ldso = strings.TrimPrefix(path.Join(dir, path.Base(name)), "/")
	}
	s.addDirectory(s.own)
	return nil
}

func (f *finder) addDirectory(dir string) {
	if dir = strings.TrimPrefix(dir, "/"); !slices.Contains(f.libraries, dir) {
		f.libraries = append(f.libraries, dir)
	}
}

// addAll adds the libraries that the program needs and what these need, in the order of the loader,
// which goes by breadth: what one library needs without a path to it, another one may have loaded
// already. What is opened by dlopen(3) comes after all that.
func (s *search) addAll() error {
	s.queue = []*object{s.program}
	for done, opened := 0, 0; ; {
		switch {
		case done < len(s.queue):
			if err := s.addNeeded(s.queue[done]); err != nil {
				return err
			}
			done++
		case opened < len(s.queue):
			if err := s.addOptional(s.queue[opened]); err != nil {
				return err
			}
			opened++
		default:
			return nil
		}
	}
}

func (s *search) addNeeded(o *object) error {
	for _, name := range o.needed {
		found, err := s.add(name, o)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("%s needs %s, which is nowhere: is systemd being upgraded?", o.path, name)
		}
	}
	return nil
}

// addOptional adds of what an object opens by dlopen(3) all but what is a suggestion.
func (s *search) addOptional(o *object) error {
	for _, d := range o.optional {
		if d.Priority == "suggested" {
			continue
		}
		found := false
		for _, name := range d.Soname {
			var err error
			if found, err = s.add(name, o); err != nil {
				return err
			}
			if found {
				break
			}
		}
		if !found && d.Priority == "required" {
			return fmt.Errorf("%s opens %s, which is nowhere", o.path, strings.Join(d.Soname, " or "))
		}
	}
	return nil
}

// add finds a library that an object needs, where ld.so(8) would, and reports whether it is there.
func (s *search) add(name string, by *object) (bool, error) {
	if s.seen[name] {
		return true, nil
	}
	var dirs []string
	for _, dir := range by.runpath {
		dir = strings.NewReplacer("$ORIGIN", path.Dir(by.path), "${ORIGIN}", path.Dir(by.path)).Replace(dir)
		if path.IsAbs(dir) && !strings.Contains(dir, "$") {
			dirs = append(dirs, dir)
		}
	}
	own := len(dirs)
	dirs = slices.Concat(dirs, s.system, s.conf)
	for i, dir := range dirs {
		real, o, err := s.open(path.Join(dir, name))
		if err != nil {
			return false, err
		}
		if o == nil {
			continue
		}
		s.seen[name] = true
		to, err := s.realDir(dir)
		if err != nil {
			return false, err
		}
		if i >= own+len(s.system) { // which the loader of a tree, without ld.so.cache, would not find
			to = s.own
		}
		s.addDirectory(to)
		s.ask(path.Join(dir, name))
		s.place(path.Join(to, name), real)
		s.queue = append(s.queue, o)
		return true, s.faster(dir, to, name)
	}
	if s.own != "" { // where it will be when somebody installs it
		s.ask(path.Join(s.own, name))
	}
	return false, nil
}

// faster adds the variants of a library for newer CPUs (ld.so(8), "glibc-hwcaps").
func (s *search) faster(dir, to, name string) error {
	const sub = "glibc-hwcaps"
	levels, err := os.ReadDir(filepath.Join(s.root, dir, sub))
	if err != nil {
		return nil
	}
	for _, level := range levels {
		file := path.Join(dir, sub, level.Name(), name)
		real, o, err := s.open(file)
		if err != nil {
			return err
		}
		if o == nil {
			continue
		}
		s.ask(file)
		s.place(path.Join(to, sub, level.Name(), name), real)
		s.queue = append(s.queue, o)
	}
	return nil
}

// open reads a library; nil for one that is not there, or of another architecture than the program.
func (s *search) open(name string) (real string, o *object, err error) {
	real, err = s.real(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	o, err = readObject(filepath.Join(s.root, real), real)
	if err != nil || o == nil || o.class != s.program.class || o.machine != s.program.machine {
		return "", nil, err
	}
	return real, o, nil
}
