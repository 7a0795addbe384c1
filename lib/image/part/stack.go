package part

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/image/unpack"
	"golang.org/x/sys/unix"
)

// Stack gives the names of the layers that an app of an OCI image sees, lowest first, for those of
// its archives, likewise. An archive is unpacked by itself, and means something that depends on
// what is below it (image-spec, layer.md: "the archive is extracted like a regular tar archive");
// where overlayfs would make something else of it, a Part takes its place, which add puts into the
// store and names.
//
// What is below an opaque root is left out: overlayfs does not look at that mark on a root. A layer
// that is there twice is listed once, at its upper place: overlayfs refuses one that is there
// twice, and nothing that the lower copy adds or hides is left undone by the upper one. root gives
// the directory of a layer by its name.
func Stack(names []string, root func(name string) string, add func(p Part) (name string, err error)) ([]string, error) {
	var stack []layer
	for _, name := range names {
		own := layer{name, root(name)}
		if isOpaque(own.root) {
			stack = nil
		}
		p, err := over(own, stack)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", name, err)
		}
		if !p.Whole() {
			if own.name, err = add(p); err != nil {
				return nil, fmt.Errorf("layer %s: %w", name, err)
			}
			own.root = root(own.name)
		}
		stack = append(slices.DeleteFunc(stack, func(l layer) bool { return l.name == own.name }), own)
	}
	var all []string
	for _, l := range stack {
		all = append(all, l.name)
	}
	return all, nil
}

type layer struct{ name, root string }

// over compares what overlayfs makes of a layer on top of others with what its archive means there.
func over(own layer, below []layer) (Part, error) {
	o := &overlaid{own: own, below: below, part: Part{ID: own.name}}
	if !strings.ContainsAny(overlay.Marks(own.root), string(overlay.MarkDirectories)+string(overlay.MarkWhiteouts)) {
		return o.part, nil
	}
	return o.part, o.visit("", "", o.bottom())
}

type overlaid struct {
	own   layer
	below []layer // lowest first
	part  Part
}

// view is the directories that overlayfs merges into one, topmost first.
type view []place

type place struct {
	layer layer
	dir   string
}

// bottom is the root of what is below.
func (o *overlaid) bottom() (v view) {
	for _, l := range slices.Backward(o.below) {
		v = append(v, place{l, l.root})
	}
	return v
}

// what a name is in a view
type kind int

const (
	nothing kind = iota
	directory
	link
	other
)

// step looks a name up as overlayfs does. The view is that of a directory; target is a link's.
func (v view) step(name string) (k kind, under view, target string, err error) {
	for _, p := range v {
		file := filepath.Join(p.dir, name)
		var st unix.Stat_t
		switch err := unix.Lstat(file, &st); {
		case err == unix.ENOENT:
			continue
		case err != nil:
			return 0, nil, "", &fs.PathError{Op: "lstat", Path: file, Err: err}
		}
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			k, under = directory, append(under, place{p.layer, file})
			if isOpaque(file) {
				return k, under, "", nil
			}
			continue
		case k == directory, isWhiteout(&st):
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			target, err := os.Readlink(file)
			return link, nil, target, err
		default:
			return other, nil, "", nil
		}
		return k, under, "", nil
	}
	return k, under, "", nil
}

// visit compares a directory of the layer, which lies at a path in what an app sees, over what is
// in the view.
func (o *overlaid) visit(name, at string, v view) error {
	dir := filepath.Join(o.own.root, name)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if isOpaque(dir) {
		v = nil
	}
	for _, e := range entries {
		child := path.Join(name, e.Name())
		if e.IsDir() {
			err = o.directory(child, path.Join(at, e.Name()), v)
		} else if e.Type()&fs.ModeCharDevice != 0 && len(v) == 0 && name != "" {
			var st unix.Stat_t
			if err = unix.Lstat(filepath.Join(dir, e.Name()), &st); err == nil && isWhiteout(&st) {
				o.part.Gone = append(o.part.Gone, child) // it hides nothing, and overlayfs would list it
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// directory compares a directory of the layer with what has its name below it.
func (o *overlaid) directory(child, at string, v view) error {
	dir := filepath.Join(o.own.root, child)
	k, under, _, err := v.step(path.Base(at))
	if err != nil {
		return err
	}
	if !implied(dir) {
		return o.visit(child, at, under)
	}
	moved := false
	if k == link {
		var real string
		if real, moved, err = o.follow(at); err != nil {
			return err
		}
		if moved {
			if under, err = o.look(real); err != nil {
				return err
			}
			at, k = real, nothing
			if len(under) > 0 {
				k = directory
			}
		}
	}
	switch {
	case k != directory && unpack.HoldsNothing(dir, implied):
		o.part.Gone = append(o.part.Gone, child)
		return nil
	case moved:
		if o.part.Moved == nil {
			o.part.Moved = map[string]string{}
		}
		o.part.Moved[child] = at
		err = o.parents(at)
	case k == directory && !alike(dir, under[0].dir):
		o.like(at, under)
	}
	if err != nil {
		return err
	}
	return o.visit(child, at, under)
}

// like notes that a directory is to be like that below it.
func (o *overlaid) like(at string, under view) {
	if o.part.Like == nil {
		o.part.Like = map[string]string{}
	}
	o.part.Like[at] = under[0].layer.name
}

// parents has the directories on the way to one that another is moved to, and itself, be like those
// below, except for those that the layer has.
func (o *overlaid) parents(at string) error {
	done := ""
	for name := range strings.SplitSeq(at, "/") {
		done = path.Join(done, name)
		info, err := os.Lstat(filepath.Join(o.own.root, done))
		switch {
		case err == nil && !info.IsDir():
			return fmt.Errorf("%q: it has that, and files in it by a link of a layer below", done)
		case err == nil:
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		under, err := o.look(done)
		if err != nil {
			return err
		}
		if len(under) > 0 {
			o.like(done, under)
		}
	}
	return nil
}

// look gives the directories below that are at a path in which there is no link.
func (o *overlaid) look(at string) (view, error) {
	v := o.bottom()
	for name := range strings.SplitSeq(at, "/") {
		_, under, _, err := v.step(name)
		if err != nil {
			return nil, err
		}
		v = under
	}
	return v, nil
}

// maxLinks is how many links follow goes through, as many as the kernel does. maxPath is the most
// that a path may be long, as for package unpack.
const (
	maxLinks = 40
	maxPath  = 3072
)

// follow resolves the links of a path within the root, as an app would that sees the layer on what
// is below it. It reports whether a directory is there or could be made.
func (o *overlaid) follow(at string) (real string, ok bool, err error) {
	rest, links := strings.Split(at, "/"), 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if real = path.Dir(real); real == "." {
				real = ""
			}
			continue
		}
		k, target, err := o.find(real, part)
		switch {
		case err != nil:
			return "", false, err
		case k == other:
			return "", false, nil
		case k != link:
			real = path.Join(real, part)
			continue
		}
		if links++; links > maxLinks {
			return "", false, nil
		}
		if path.IsAbs(target) {
			real = ""
		}
		rest = append(strings.Split(target, "/"), rest...)
		if len(real)+len(strings.Join(rest, "/")) > maxPath {
			return "", false, fmt.Errorf("%q: its path is longer than %d bytes", at, maxPath)
		}
	}
	return real, real != "", nil
}

// find tells what a name is in a directory, in the layer itself or else below it.
func (o *overlaid) find(dir, name string) (kind, string, error) {
	file := filepath.Join(o.own.root, dir, name)
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), err == nil && info.IsDir() && implied(file):
	case err != nil:
		return 0, "", err
	case info.IsDir():
		return directory, "", nil
	case info.Mode().Type() == fs.ModeSymlink:
		target, err := os.Readlink(file)
		return link, target, err
	case isOverlayWhiteout(file):
		return nothing, "", nil
	default:
		return other, "", nil
	}
	v := o.bottom()
	if dir != "" {
		if v, err = o.look(dir); err != nil {
			return 0, "", err
		}
	}
	k, _, target, err := v.step(name)
	return k, target, err
}

func implied(dir string) bool { return overlay.Marks(dir) != "" }

func isOpaque(dir string) bool {
	value := make([]byte, 1)
	n, err := unix.Lgetxattr(dir, overlay.Opaque, value)
	return err == nil && string(value[:n]) == "y"
}

func isWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

func isOverlayWhiteout(file string) bool {
	var st unix.Stat_t
	return unix.Lstat(file, &st) == nil && isWhiteout(&st)
}

// alike reports whether two directories have the same owner, mode and time, and no attributes that
// Link would take over.
func alike(a, b string) bool {
	var x, y unix.Stat_t
	if unix.Lstat(a, &x) != nil || unix.Lstat(b, &y) != nil {
		return false
	}
	kept, err := unpack.Attributes(b)
	return err == nil && len(kept) == 0 && x.Mode == y.Mode && x.Uid == y.Uid && x.Gid == y.Gid && x.Mtim == y.Mtim
}
