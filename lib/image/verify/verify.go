// Package verify looks whether an image in the store is what its ID says: each byte of each file,
// and each file's type, mode, owner, size, time, link target, device and attributes.
//
// Nothing that the store has beside the files is believed. A layer is put together again as the
// archive that it was, whose digest is the layer's name, or the image's ID, or stands in the
// image's config, whose digest is the ID. That archive is then unpacked again, without the
// contents, and the two directories are compared.
package verify

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/part"
	"github.com/rkt-toolkit/rkt/lib/image/recipe"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/image/unpack"
	"golang.org/x/sys/unix"
)

// maxProblems is how many are told of one layer; what is wrong everywhere need not be told
// everywhere.
const maxProblems = 20

// Verifier verifies images; a layer that several of them have is looked at once.
type Verifier struct {
	store   *store.Store
	problem func(string)
	layers  map[string]*checked
}

// checked is what came of a layer.
type checked struct {
	whole    bool
	manifest *schema.ImageManifest // of an ACI
}

// New makes a Verifier for a store. problem is told of what is wrong, a line each.
func New(s *store.Store, problem func(string)) *Verifier {
	return &Verifier{store: s, problem: problem, layers: map[string]*checked{}}
}

// Image reports whether an image is what its ID says. The error is of what could not be looked at.
func (v *Verifier) Image(ctx context.Context, img *store.Image) (whole bool, err error) {
	config, err := os.ReadFile(img.Config)
	switch {
	case err == nil:
		whole = v.config(img, config)
	case errors.Is(err, fs.ErrNotExist):
		whole, err = v.own(ctx, img)
	}
	if err != nil {
		return false, err
	}
	for _, path := range img.Layers {
		c, err := v.layer(ctx, store.LayerName(path))
		if err != nil {
			return false, err
		}
		whole = whole && c.whole
	}
	return whole, nil
}

// ACI gives the manifest that is in the ACI of that ID, and reports whether all of the ACI is what
// the ID says.
func (v *Verifier) ACI(ctx context.Context, id string) (*schema.ImageManifest, bool, error) {
	c, err := v.layer(ctx, id)
	if err != nil {
		return nil, false, err
	}
	return c.manifest, c.whole && c.manifest != nil, nil
}

// own verifies the manifest of an ACI.
func (v *Verifier) own(ctx context.Context, img *store.Image) (bool, error) {
	if !v.store.HasLayer(img.ID) {
		v.problem("its own layer is missing")
		return false, nil
	}
	c, err := v.layer(ctx, img.ID)
	if err != nil || !c.whole {
		return false, err
	}
	if !same(c.manifest, img.Manifest) {
		v.problem("manifest: another one than in the ACI")
		return false, nil
	}
	return true, nil
}

func same(a, b *schema.ImageManifest) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// config verifies what the store makes of an OCI image's config.
func (v *Verifier) config(img *store.Image, config []byte) (whole bool) {
	whole = true
	tell := func(problem string) { v.problem(problem); whole = false }
	if fmt.Sprintf("sha512-%x", sha512.Sum512(config)) != img.ID {
		tell("config: not what the ID says")
		return
	}
	// The manifest has from elsewhere only the name and the version, which are those of the first
	// fetch.
	if m, err := image.FromOCI(config, image.Reference{Kind: image.Docker, Host: "x", Repository: "x",
		Tag: "x"}); err != nil {
		tell(fmt.Sprintf("config: %v", err))
	} else {
		m.Name = img.Manifest.Name
		m.Labels = slices.DeleteFunc(m.Labels, isVersion)
		now := *img.Manifest
		now.Labels = slices.DeleteFunc(slices.Clone(now.Labels), isVersion)
		if !same(m, &now) {
			tell("manifest: not what the config makes")
		}
	}
	var c struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		tell(fmt.Sprintf("config: %v", err))
		return
	}
	var names []string
	for _, id := range c.RootFS.DiffIDs {
		names = append(names, strings.Replace(id, ":", "-", 1))
	}
	var have []string
	for _, path := range img.Layers {
		have = append(have, store.LayerName(path))
	}
	want, err := part.Stack(names, v.store.LayerPath, func(p part.Part) (string, error) {
		name, _, err := p.Name()
		if err == nil && !v.store.HasLayer(name) {
			err = fmt.Errorf("%s is missing", name)
		}
		return name, err
	})
	switch {
	case err != nil:
		tell(fmt.Sprintf("layers: %v", err))
	case !slices.Equal(want, have):
		tell("layers: not those of the config")
	}
	return
}

// layer verifies a layer.
func (v *Verifier) layer(ctx context.Context, name string) (*checked, error) {
	if c, ok := v.layers[name]; ok {
		return c, nil
	}
	c := &checked{}
	problems := 0
	tell := func(problem string) {
		if problems++; problems <= maxProblems {
			v.problem(fmt.Sprintf("layer %s: %s", name[:min(len(name), 19)], problem))
		}
	}
	err := v.store.Temporary(ctx, func(root *os.File) error {
		if strings.HasPrefix(name, "part-") {
			return v.part(ctx, name, root, tell)
		}
		var err error
		c.manifest, err = v.archive(ctx, name, root, tell)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", name, err)
	}
	if problems > maxProblems {
		v.problem(fmt.Sprintf("layer %s: and %d more", name[:min(len(name), 19)], problems-maxProblems))
	}
	c.whole = problems == 0
	v.layers[name] = c
	return c, nil
}

// aciOptions unpack an ACI, and set manifest when they come to it.
func aciOptions(manifest **schema.ImageManifest) unpack.Options {
	return unpack.Options{Skeleton: true, Subtree: "rootfs", MarkImplied: true,
		Outside: func(name string, _ *tar.Header, r io.Reader) error {
			if name != "manifest" {
				return nil
			}
			text, err := io.ReadAll(io.LimitReader(r, 64<<20))
			if err != nil {
				return err
			}
			*manifest = new(schema.ImageManifest)
			return json.Unmarshal(text, *manifest)
		}}
}

// archive verifies a layer that was an archive; skeleton is an empty directory.
func (v *Verifier) archive(ctx context.Context, name string, skeleton *os.File,
	tell func(string)) (manifest *schema.ImageManifest, err error) {
	digest := sha256.New()
	// an older rkt did not
	o := unpack.Options{Skeleton: true, Whiteouts: true, MarkImplied: overlay.Marks(v.store.LayerPath(name)) != ""}
	if strings.HasPrefix(name, "sha512-") {
		digest = sha512.New()
		o = aciOptions(&manifest)
	}
	text, err := os.Open(v.store.LayerFile(name, unpack.RecipeFile))
	if errors.Is(err, fs.ErrNotExist) {
		tell("its recipe is missing")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer text.Close()
	root, err := os.Open(v.store.LayerPath(name))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	told := map[string]bool{}
	unpacked, restored := unpackRestored(digest, text, root, skeleton, o,
		func(name string, problem error) error {
			told[name] = true
			tell(fmt.Sprintf("%q: %v", name, problem))
			return ctx.Err()
		})
	switch {
	case errors.Is(restored, recipe.ErrDamaged):
		tell(restored.Error())
		return nil, nil
	case restored != nil:
		return nil, restored
	}
	if name != fmt.Sprintf("sha256-%x", digest.Sum(nil)) && name != fmt.Sprintf("sha512-%x", digest.Sum(nil)) {
		if len(told) == 0 {
			tell("its digest is another one")
		}
		if unpacked != nil {
			return nil, nil
		}
	}
	if unpacked != nil {
		return nil, unpacked
	}
	return manifest, compare(ctx, skeleton.Name(), root.Name(), func(name, problem string) {
		if !told[name] {
			tell(fmt.Sprintf("%q: %s", name, problem))
		}
	})
}

// unpackRestored restores an archive from its recipe and from the files in root, and unpacks it
// into skeleton. All of the archive passes through digest. It returns the errors of both.
func unpackRestored(digest io.Writer, text io.Reader, root, skeleton *os.File, o unpack.Options,
	tell func(name string, problem error) error) (unpacked, restored error) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := recipe.Restore(io.MultiWriter(digest, w), text, root, tell)
		w.CloseWithError(err)
		done <- err
	}()
	unpacked = unpack.Tar(skeleton, r, o)
	if unpacked != nil {
		_, _ = io.Copy(io.Discard, r) // which no longer makes sense, but its digest tells why
	}
	return unpacked, <-done
}

// part verifies a layer of links to files of another one.
func (v *Verifier) part(ctx context.Context, name string, skeleton *os.File, tell func(string)) error {
	text, err := os.ReadFile(v.store.LayerFile(name, part.File))
	if errors.Is(err, fs.ErrNotExist) || err == nil && fmt.Sprintf("part-%x", sha512.Sum512(text)) != name {
		tell("what it is a part of is not known")
		return nil
	}
	if err != nil {
		return err
	}
	p, err := part.Parse(text)
	if err != nil {
		return err
	}
	for _, id := range p.Needs() {
		if !v.store.HasLayer(id) {
			tell("the image that it is a part of is missing: " + id)
			return nil
		}
		c, err := v.layer(ctx, id)
		if err != nil {
			return err
		}
		if !c.whole {
			tell("the image that it is a part of is damaged")
		}
	}
	if err := p.Link(skeleton.Name(), v.store.LayerPath); errors.Is(err, unix.EXDEV) {
		return errors.New("is made of links, and can be verified only where the store can be written to")
	} else if err != nil {
		return err
	}
	return compare(ctx, skeleton.Name(), v.store.LayerPath(name), func(name, problem string) {
		tell(fmt.Sprintf("%q: %s", name, problem))
	})
}

// file is all that lstat(2) and the like tell of one that matters.
type file struct {
	kind, mode, uid, gid uint32
	size                 int64 // not of directories
	device               uint64
	time                 unix.Timespec
	target               string
	attributes           map[string]string
	same                 string // the first name of its inode, if it has more than one
}

// compare tells what differs between two directories, contents aside.
func compare(ctx context.Context, want, have string, differs func(name, problem string)) error {
	expected, err := list(ctx, want)
	if err != nil {
		return err
	}
	found, err := list(ctx, have)
	if err != nil {
		return err
	}
	var names []string
	for name := range expected {
		names = append(names, name)
	}
	for name := range found {
		if _, ok := expected[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		w, expected := expected[name]
		h, found := found[name]
		switch {
		case !found:
			differs(name, "is missing")
		case !expected:
			differs(name, "is not of the image")
		default:
			for _, problem := range w.compare(h) {
				differs(name, problem)
			}
		}
	}
	return nil
}

func (w *file) compare(h *file) (problems []string) {
	if w.kind != h.kind {
		return []string{fmt.Sprintf("is a %s, not a %s", kinds[h.kind], kinds[w.kind])}
	}
	tell := func(differs bool, format string, args ...any) {
		if differs {
			problems = append(problems, fmt.Sprintf(format, args...))
		}
	}
	tell(w.mode != h.mode, "mode %04o, not %04o", h.mode, w.mode)
	tell(w.uid != h.uid || w.gid != h.gid, "owner %d:%d, not %d:%d", h.uid, h.gid, w.uid, w.gid)
	tell(w.size != h.size, "has %d bytes, not %d", h.size, w.size)
	tell(w.device != h.device, "device %d:%d, not %d:%d", unix.Major(h.device), unix.Minor(h.device),
		unix.Major(w.device), unix.Minor(w.device))
	whiteout := w.kind == unix.S_IFCHR && w.device == 0 // of which nobody sees the time
	tell(w.time != h.time && !whiteout, "time %d.%09d, not %d.%09d", h.time.Sec, h.time.Nsec, w.time.Sec, w.time.Nsec)
	tell(w.target != h.target, "link to %q, not %q", h.target, w.target)
	tell(w.same != h.same && h.same != "", "is the same file as %q", h.same)
	tell(w.same != h.same && w.same != "", "is not the same file as %q", w.same)
	for key, value := range w.attributes {
		now, ok := h.attributes[key]
		tell(!ok, "attribute %s is missing", key)
		tell(ok && now != value, "attribute %s is another one", key)
	}
	for key := range h.attributes {
		_, ok := w.attributes[key]
		tell(!ok, "attribute %s is not of the image", key)
	}
	slices.Sort(problems)
	return problems
}

var kinds = map[uint32]string{unix.S_IFDIR: "directory", unix.S_IFREG: "file", unix.S_IFLNK: "symbolic link",
	unix.S_IFCHR: "character device",
	unix.S_IFBLK: "block device", unix.S_IFIFO: "fifo", unix.S_IFSOCK: "socket"}

// list looks at all that is in a directory; the directory itself is ".".
func list(ctx context.Context, root string) (map[string]*file, error) {
	type inode struct{ dev, ino uint64 }
	first := map[inode]string{}
	all := map[string]*file{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		f := &file{kind: st.Mode & unix.S_IFMT, mode: st.Mode & 0o7777, uid: st.Uid, gid: st.Gid, time: st.Mtim}
		all[name] = f
		switch f.kind {
		case unix.S_IFREG:
			f.size = st.Size
		case unix.S_IFCHR, unix.S_IFBLK:
			f.device = st.Rdev
		case unix.S_IFLNK:
			if f.target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		if f.kind != unix.S_IFDIR && st.Nlink > 1 {
			i := inode{st.Dev, st.Ino}
			if _, ok := first[i]; !ok {
				first[i] = name
			} else { // other names of it may be outside of the directory
				f.same = first[i]
			}
		}
		if f.kind == unix.S_IFREG || f.kind == unix.S_IFDIR {
			f.attributes, err = unpack.Attributes(path, overlay.Opaque, overlay.Implied)
		}
		return err
	})
	return all, err
}

func isVersion(l types.Label) bool { return l.Name == "version" }
