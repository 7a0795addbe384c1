package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/tree"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/part"
	"golang.org/x/sys/unix"
)

// draft is a directory in cas/tmp that this process has locked: work in progress that no other
// process touches, and rubbish that any may remove as soon as the lock is gone. What is made in it
// leaves it by a rename.
type draft struct {
	path string
	lock *os.File
}

// lookAgain is how long to wait for another process's lock before looking whether it is still of
// use.
const lookAgain = 100 * time.Millisecond

// begin makes and locks cas/tmp/<name>, empty. If another process has it, begin waits; it returns
// nil when done says that there is nothing left to do.
func (s *Store) begin(ctx context.Context, name string, done func() bool) (*draft, error) {
	if err := s.make(ctx); err != nil {
		return nil, err
	}
	return s.lock(ctx, name, done)
}

func (s *Store) lock(ctx context.Context, name string, done func() bool) (*draft, error) {
	d, err := hold(ctx, s.path("tmp", name), done)
	if err != nil || d == nil {
		return nil, err
	}
	if err := d.wipe(); err != nil { // its maker was killed
		d.lock.Close()
		return nil, err
	}
	return d, nil
}

// hold makes and locks a directory, which may be there with something in it.
func hold(ctx context.Context, path string, done func() bool) (*draft, error) {
	for {
		if done() {
			return nil, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		lock, err := durable.Lock(path, lookAgain)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, durable.ErrLocked) {
			continue
		}
		if err != nil {
			return nil, err
		}
		d := &draft{path, lock}
		switch same, err := d.inPlace(); {
		case err != nil:
			lock.Close()
			return nil, err
		case !same: // renamed or removed while we waited
			lock.Close()
			continue
		case done():
			return nil, d.discard()
		}
		return d, nil
	}
}

// inPlace reports whether the locked directory is still the one of that name.
func (d *draft) inPlace() (bool, error) {
	var mine, there unix.Stat_t
	if err := unix.Fstat(int(d.lock.Fd()), &mine); err != nil {
		return false, fmt.Errorf("%s: %w", d.path, err)
	}
	err := unix.Lstat(d.path, &there)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", d.path, err)
	}
	return mine.Dev == there.Dev && mine.Ino == there.Ino, nil
}

func (d *draft) wipe() error {
	names, err := d.lock.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	for _, name := range names {
		if err := tree.Remove(filepath.Join(d.path, name)); err != nil {
			return err
		}
	}
	return nil
}

// discard removes the draft and lets go of it.
func (d *draft) discard() error {
	err := tree.Remove(d.path)
	return errors.Join(err, d.lock.Close())
}

// keep makes a directory or file of the draft, which the caller has synced, last under its final
// name, and removes the draft.
func (d *draft) keep(name, final string) error {
	err := os.Rename(filepath.Join(d.path, name), final)
	if err == nil {
		err = durable.SyncDir(filepath.Dir(final))
	}
	return errors.Join(err, d.discard())
}

// write keeps a file with that content.
func (d *draft) write(name string, data []byte, final string) error {
	file := filepath.Join(d.path, name)
	err := os.WriteFile(file, data, 0o600)
	if err == nil {
		err = durable.SyncDir(file) // fsync(2) is the same for a file
	}
	if err != nil {
		return errors.Join(err, d.discard())
	}
	return d.keep(name, final)
}

// make makes an empty store of what is not there yet. Only root may look into it: it holds
// set-user-ID programs and device nodes of images, out of reach of everybody else.
func (s *Store) make(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(s.cas), 0o750); err != nil {
		return err
	}
	for _, dir := range []string{s.cas, s.path("layer"), s.path("image"), s.path("ref"), s.path("tmp")} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	made := func() bool { _, err := os.Lstat(s.path("version")); return err == nil }
	d, err := s.lock(ctx, "version", made)
	if err != nil || d == nil {
		return err
	}
	return d.write("version", []byte(format), s.path("version"))
}

// Clean removes what killed processes have left in the store: whatever nobody holds the lock of.
// Parts of downloads stay for a day.
func (s *Store) Clean() error {
	return errors.Join(clean(s.path("tmp"), time.Time{}), clean(s.path("partial"), time.Now().Add(-partialAge)))
}

// clean removes the directories in a directory that nobody holds the lock of and that were last
// changed before that time, if one is given.
func clean(dir string, before time.Time) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if info, err := e.Info(); !e.IsDir() || err == nil && !before.IsZero() && info.ModTime().After(before) {
			continue // none of ours, or not old enough
		}
		lock, err := durable.Lock(path, 0)
		if errors.Is(err, durable.ErrLocked) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		d := &draft{path, lock}
		if same, err := d.inPlace(); err != nil || !same {
			errs = append(errs, err, lock.Close())
			continue
		}
		errs = append(errs, d.discard())
	}
	return errors.Join(errs...)
}

// Scratch gives an empty file without a name, gone when it is closed, for what is needed for a
// moment and too large for memory.
func (s *Store) Scratch(ctx context.Context) (*os.File, error) {
	d, err := s.begin(ctx, "scratch-"+rand.Text(), func() bool { return false })
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(d.path, "file"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err := errors.Join(err, d.discard()); err != nil {
		return nil, err
	}
	return f, nil
}

// Layer is a layer that is being made.
type Layer struct {
	Root *os.File // an empty directory that no other process touches
	Dir  string   // the directory that it is in; what else is put there is kept with the layer, see LayerFile

	store *Store
	draft *draft
}

// NewLayer begins a layer whose name is not known before all of it has been read.
func (s *Store) NewLayer(ctx context.Context) (*Layer, error) {
	return s.newLayer(ctx, "layer-"+rand.Text(), func() bool { return false })
}

func (s *Store) newLayer(ctx context.Context, tmp string, done func() bool) (*Layer, error) {
	d, err := s.begin(ctx, tmp, done)
	if err != nil || d == nil {
		return nil, err
	}
	l := &Layer{store: s, draft: d, Dir: filepath.Join(d.path, "layer")}
	dir := filepath.Join(l.Dir, layerRoot)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, errors.Join(err, d.discard())
	}
	if l.Root, err = os.Open(dir); err == nil {
		err = l.Root.Chmod(0o755) // the app's / unless the layer says otherwise; cas keeps everybody out
	}
	if err != nil {
		return nil, errors.Join(err, l.Discard())
	}
	return l, nil
}

// Commit puts the layer into the store under its name, for good, or removes it and says why it
// cannot. If the store has that layer already, this one is removed and all is well.
func (l *Layer) Commit(name string) error {
	if !validLayer(name) {
		return errors.Join(fmt.Errorf("%q is not the name of a layer", name), l.Discard())
	}
	if l.store.HasLayer(name) {
		return l.Discard()
	}
	// One call for a tree of any size, which also tells of blocks that could not be written since
	// the directory was opened.
	if err := unix.Syncfs(int(l.Root.Fd())); err != nil {
		return errors.Join(fmt.Errorf("layer %s: sync: %w", name, err), l.Discard())
	}
	final := l.store.path("layer", name)
	if _, err := os.Lstat(final); err == nil && !l.store.HasLayer(name) { // a damaged one: it goes with the draft
		err := unix.Renameat2(unix.AT_FDCWD, l.Dir, unix.AT_FDCWD, final, unix.RENAME_EXCHANGE)
		if err == nil {
			err = durable.SyncDir(filepath.Dir(final))
		}
		return errors.Join(err, l.Discard())
	}
	err := l.draft.keep("layer", final)
	l.Root.Close()
	if errors.Is(err, fs.ErrExist) && l.store.HasLayer(name) { // another process was faster
		return nil
	}
	return err
}

// Discard removes the layer.
func (l *Layer) Discard() error {
	l.Root.Close()
	return l.draft.discard()
}

// AddLayer makes sure that the store has the layer of that name. If it has not, fill gets an empty
// one, and when it returns nil the layer is in the store for good. Of several processes that want
// one layer, one makes it and the others wait; if that one fails or is killed, another takes over.
func (s *Store) AddLayer(ctx context.Context, name string, fill func(l *Layer) error) error {
	if !validLayer(name) {
		return fmt.Errorf("%q is not the name of a layer", name)
	}
	l, err := s.newLayer(ctx, "layer-"+name, func() bool { return s.HasLayer(name) })
	if err != nil || l == nil {
		return err
	}
	if err := fill(l); err != nil {
		return errors.Join(err, l.Discard())
	}
	return l.Commit(name)
}

// AddPart makes sure that the store has the layer that is a part of others, which it has, and
// returns its name.
func (s *Store) AddPart(ctx context.Context, p part.Part) (string, error) {
	name, text, err := p.Name()
	if err != nil {
		return "", err
	}
	return name, s.AddLayer(ctx, name, func(l *Layer) error {
		if err := os.WriteFile(filepath.Join(l.Dir, part.File), text, 0o600); err != nil {
			return err
		}
		return p.Link(l.Root.Name(), s.LayerPath)
	})
}

// AddImage puts an image into the store, its layers (names, lowest first) being there already.
// config is the OCI image config as fetched, nil for an ACI. An image that is there already is left
// alone if it is complete and has those layers: the ID names all of its content, but what an ACI
// depends on may have changed.
//
// A layer that is there twice is listed once, at its upper place: overlayfs refuses a lower
// directory that is there twice, and nothing that the lower copy adds or hides is left undone by
// the upper one.
func (s *Store) AddImage(ctx context.Context, id string, manifest *schema.ImageManifest, layers []string,
	config []byte) error {
	if !ValidID(id) {
		return fmt.Errorf("%q is not an image ID", id)
	}
	list, roots, err := s.listLayers(id, layers)
	if err != nil {
		return err
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		return fmt.Errorf("image %s: manifest: %w", id, err)
	}
	done := func() bool {
		old, err := os.ReadFile(s.path("image", id, "layers"))
		if err != nil || string(old) != list {
			return false
		}
		img, err := s.Image(id)
		return err == nil && s.Check(img) == nil
	}
	d, err := s.begin(ctx, "image-"+id, done)
	if err != nil {
		return err
	}
	if d == nil {
		return s.keep(id)
	}
	files := map[string][]byte{"manifest": append(text, '\n'), "layers": []byte(list)}
	if config != nil {
		files["config"] = config
	}
	final := s.path("image", id)
	if err := s.writeImage(filepath.Join(d.path, "image"), files, roots); err != nil {
		return errors.Join(err, d.discard())
	}
	// A damaged image of this ID makes room, and one with other layers.
	if err := os.Rename(final, filepath.Join(d.path, "former")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, d.discard())
	}
	if err := d.keep("image", final); err != nil {
		return err
	}
	if err := s.keep(id); err != nil {
		return err
	}
	return s.checkLayers(id, strings.Fields(list))
}

// listLayers makes the text of an image's file of layers, and their paths.
func (s *Store) listLayers(id string, layers []string) (list string, roots []string, err error) {
	for i, name := range layers {
		switch {
		case !validLayer(name) || !s.HasLayer(name):
			return "", nil, fmt.Errorf("image %s: layer %s is not in the store", id, name)
		case !slices.Contains(layers[i+1:], name):
			list += name + "\n"
			roots = append(roots, s.LayerPath(name))
		}
	}
	return list, roots, nil
}

// writeImage makes the directory of an image, with the sum of its files and layers, and fsyncs it.
func (s *Store) writeImage(dir string, files map[string][]byte, roots []string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	sum, err := s.sumOf(dir, roots)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, sumFile), []byte(sum), 0o600)
	}
	if err != nil {
		return err
	}
	return durable.SyncTree(dir)
}

// checkLayers returns an error if a layer was removed just before it was seen to be needed.
func (s *Store) checkLayers(id string, layers []string) error {
	if _, err := s.Image(id); err != nil {
		return err
	}
	for _, name := range s.needs(id, layers) {
		if name != id && !s.HasLayer(name) {
			return fmt.Errorf("image %s: incomplete: layer %s is missing; fetch the image again", id, name)
		}
	}
	return nil
}

// SetRef makes a reference name the image of that ID. In the records, an image that had the name
// keeps it if it was verified for it and the new one was not: where verification is asked for, the
// name still means that one.
func (s *Store) SetRef(ctx context.Context, ref image.Reference, id string) error {
	if !ValidID(id) || ref.Key() == "" {
		return fmt.Errorf("%s: cannot name an image", ref.Name())
	}
	if err := s.keepRef(id, ref.Key()); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may be removed meanwhile
		return err
	}
	old, err := s.Lookup(ref)
	if err == nil && old == id {
		return s.dropFormer(ref, id)
	}
	if err := s.touchRef(id, ref.Key()); err != nil {
		return err
	}
	if err := s.writeRef(ctx, Ref{ref.Key(), id}); err != nil {
		return err
	}
	return s.dropFormer(ref, id)
}

// dropFormer takes a name from the records of the images that had it before, for which see SetRef.
func (s *Store) dropFormer(ref image.Reference, id string) error {
	ids, err := s.Named(ref)
	if err != nil {
		return err
	}
	verified := s.signed(id, ref)
	for _, former := range ids {
		if former == id || !verified && s.signed(former, ref) {
			continue
		}
		if err := s.dropRef(former, ref.Key()); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) writeRef(ctx context.Context, ref Ref) error {
	d, err := s.begin(ctx, "ref-"+rand.Text(), func() bool { return false })
	if err != nil {
		return err
	}
	final := s.path("ref", ref.Key)
	if err := os.MkdirAll(filepath.Dir(final), 0o700); err != nil {
		return errors.Join(err, d.discard())
	}
	return d.write("id", []byte(ref.ID+"\n"), final)
}

// Ref is a name of an image in the store.
type Ref struct {
	Key string // image.Reference's key
	ID  string
}

// Refs lists all names of images, sorted by key.
func (s *Store) Refs() ([]Ref, error) {
	var refs []Ref
	root := s.path("ref")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		key, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		refs = append(refs, Ref{Key: key, ID: strings.TrimSpace(string(text))})
		return nil
	})
	return refs, err
}

// Temporary calls f with an empty directory, which is removed when it returns: on the store's file
// system, or if that is read-only, where temporary files are.
func (s *Store) Temporary(ctx context.Context, f func(dir *os.File) error) error {
	l, err := s.NewLayer(ctx)
	if errors.Is(err, unix.EROFS) {
		return elsewhere(f)
	}
	if err != nil {
		return err
	}
	return errors.Join(f(l.Root), l.Discard())
}

func elsewhere(f func(dir *os.File) error) error {
	path, err := os.MkdirTemp("", "rkt-")
	if err != nil {
		return err
	}
	dir, err := os.Open(path)
	if err == nil {
		err = errors.Join(dir.Chmod(0o755), f(dir), dir.Close())
	}
	return errors.Join(err, tree.Remove(path))
}
