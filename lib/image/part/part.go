// Package part is what an image has of a layer that is not seen as its archive has it: an ACI's of
// which a pathWhitelist hides something, and any whose directories are to be like those of layers
// below, or lie elsewhere, since a layer below has a link of their name. It is a layer of its own,
// with hard links to the files of that one, so that it costs directories and names.
package part

import (
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"golang.org/x/sys/unix"
)

// File is the name of the file that says, beside the layer's directory, what the layer is: a Part
// as JSON.
const File = "part"

// Part is what an image has of one of the images that it is made of.
type Part struct {
	ID    string   `json:"id"`
	Own   []string `json:"own,omitempty"`   // pathWhitelist of that image, for files; nil if all are taken
	Above []string `json:"above,omitempty"` // that of the uppermost image that is made of it, for files and directories

	// Like has the directories that the archive only implies, and the layers below that have them:
	// whoever unpacks one archive after the other has one of both, like that of the layer below,
	// and overlayfs takes owner and mode of the upper one.
	Like map[string]string `json:"like,omitempty"`

	// Moved has the directories that the archive only implies and whose name is a link in a layer
	// below, and where that leads.
	Moved map[string]string `json:"moved,omitempty"`

	// Gone has whiteouts that hide nothing, and directories of nothing else, which overlayfs would
	// show.
	Gone []string `json:"gone,omitempty"`
}

// Parse reads the text of a File.
func Parse(text []byte) (p Part, err error) {
	return p, json.Unmarshal(text, &p)
}

// Name is the name of the layer, and text what it is the digest of.
func (p Part) Name() (name string, text []byte, err error) {
	if text, err = json.Marshal(p); err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("part-%x", sha512.Sum512(text)), text, nil
}

// Whole tells that the image's own layer is meant, and no other.
func (p Part) Whole() bool {
	return len(p.Own) == 0 && len(p.Above) == 0 && len(p.Like) == 0 && len(p.Moved) == 0 && len(p.Gone) == 0
}

// Needs are the layers that the part is made of.
func (p Part) Needs() []string {
	all := []string{p.ID}
	for _, name := range slices.Sorted(maps.Values(p.Like)) {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// Shows reports whether a directory of that name is seen, if the image has it.
func (p Part) Shows(name string) bool { return len(p.Above) == 0 || pathSet(p.Above)[name] }

// Hides reports whether the whitelists hide anything of the image's own layer.
func (p Part) Hides(layer string) (bool, error) {
	return whitelist{pathSet(p.Own), pathSet(p.Above)}.hides(layer)
}

// Link fills an empty directory with what is seen; layer gives the directories of layers. Nobody
// else changes any of them, and no link in them is followed.
func (p Part) Link(to string, layer func(name string) string) error {
	l := linker{
		part: p, from: layer(p.ID), to: to, list: whitelist{pathSet(p.Own), pathSet(p.Above)}, gone: pathSet(p.Gone),
		made: map[string]string{".": "."}, order: []string{"."}, opaque: map[string]bool{},
	}
	for _, moved := range []bool{false, true} { // what has a name already keeps it
		if len(p.Moved) == 0 && moved {
			continue
		}
		if err := l.walk(moved); err != nil {
			return err
		}
	}
	return l.describe(layer)
}

type linker struct {
	part     Part
	from, to string
	list     whitelist
	gone     map[string]bool
	made     map[string]string // directories: the name in the layer of each that it has, else ""
	order    []string          // of making them
	opaque   map[string]bool
}

// walk links what is taken of the layer: what is moved, or what is not.
func (l *linker) walk(moved bool) error {
	return EachEntry(l.from, func(name string, d fs.DirEntry) error {
		if l.gone[name] {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		place, isMoved := l.place(name)
		if isMoved != moved || !l.list.has(name, d) {
			return nil
		}
		if d.IsDir() {
			if isOpaque(filepath.Join(l.from, name)) {
				l.opaque[place] = true
			}
			if _, root := l.part.Moved[name]; root {
				name = ""
			}
			return l.mkdir(place, name)
		}
		if err := l.mkdir(path.Dir(place), path.Dir(name)); err != nil {
			return err
		}
		err := os.Link(filepath.Join(l.from, name), filepath.Join(l.to, place))
		if moved && errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	})
}

// place is where something of the layer is to be.
func (l *linker) place(name string) (place string, moved bool) {
	if len(l.part.Moved) == 0 {
		return name, false
	}
	for dir := name; dir != "."; dir = path.Dir(dir) {
		if to, ok := l.part.Moved[dir]; ok {
			return path.Join(to, name[len(dir):]), true
		}
	}
	return name, false
}

// mkdir makes a directory and those above it. name is what the layer has for it, or "".
func (l *linker) mkdir(place, name string) error {
	if known, ok := l.made[place]; ok {
		if known == "" {
			l.made[place] = name
		}
		return nil
	}
	above := ""
	if name == place {
		above = path.Dir(name)
	}
	if err := l.mkdir(path.Dir(place), above); err != nil {
		return err
	}
	l.made[place], l.order = name, append(l.order, place)
	return os.Mkdir(filepath.Join(l.to, place), 0o700)
}

// describe gives the directories owners, modes, attributes and times; the deepest first, since what
// is made in a directory changes its time.
func (l *linker) describe(layer func(name string) string) error {
	for _, place := range slices.Backward(l.order) {
		to := filepath.Join(l.to, place)
		var err error
		if like, ok := l.part.Like[place]; ok {
			err = likeFolder(filepath.Join(layer(like), place), to)
		} else if name := l.made[place]; name != "" {
			err = likeFolder(filepath.Join(l.from, name), to)
		} else { // what nobody describes
			err = errors.Join(unix.Chmod(to, 0o755), os.Chtimes(to, time.Unix(0, 0), time.Unix(0, 0)))
		}
		if err == nil && (l.opaque[place] || place == "." && isOpaque(l.from)) {
			err = unix.Lsetxattr(to, overlay.Opaque, []byte("y"), 0)
		}
		if err != nil {
			return err
		}
	}
	if strings.ContainsRune(overlay.Marks(l.from), overlay.MarkRoot) {
		return unix.Lsetxattr(l.to, overlay.Implied, []byte(string(overlay.MarkRoot)), 0)
	}
	return nil
}

// whitelist tells what is taken of an image. A nil set is everything.
type whitelist struct{ own, above map[string]bool }

func pathSet(list []string) map[string]bool {
	if len(list) == 0 {
		return nil
	}
	set := make(map[string]bool, len(list))
	for _, p := range list {
		set[path.Clean("/" + p)[1:]] = true
	}
	return set
}

func (w whitelist) has(name string, d fs.DirEntry) bool {
	return (w.own == nil || d.IsDir() || w.own[name]) && (w.above == nil || w.above[name])
}

// hides reports whether anything in a directory is not taken.
func (w whitelist) hides(from string) (hides bool, err error) {
	err = EachEntry(from, func(name string, d fs.DirEntry) error {
		if !w.has(name, d) {
			hides = true
			return fs.SkipAll
		}
		return nil
	})
	return hides, err
}

// likeFolder gives a directory owner, mode, attributes and times of another.
func likeFolder(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Llistxattr(from, list)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%s: attributes: %w", from, err)
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for name := range strings.SplitSeq(string(list[:max(n, 0)]), "\x00") {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		n, err := unix.Lgetxattr(from, name, value)
		if err == nil {
			err = unix.Lsetxattr(to, name, value[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("%s: attribute %s: %w", from, name, err)
		}
	}
	err = errors.Join(unix.Lchown(to, int(st.Uid), int(st.Gid)), unix.Chmod(to, st.Mode&0o7777),
		unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{st.Mtim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW))
	if err != nil {
		return fmt.Errorf("%s: %w", to, err)
	}
	return nil
}

// EachEntry calls f for all that is in a directory, at any depth, with its name there.
func EachEntry(dir string, f func(name string, d fs.DirEntry) error) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		return f(p[len(dir)+1:], d)
	})
}
