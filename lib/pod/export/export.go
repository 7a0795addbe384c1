// Package export gives an image of the store back: as the ACI that it was, or as an ACI or a
// directory of what an app of it sees.
package export

import (
	"archive/tar"
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
	"time"

	"github.com/appc/spec/schema"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/host/tree"
	"github.com/rkt-toolkit/rkt/lib/image/recipe"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/image/unpack"
	"golang.org/x/sys/unix"
)

// ACI writes an image as an uncompressed ACI: the very bytes that it was made of if it was one,
// without what it depends on, and else what Rendered writes. If it returns an error, what was
// written is no such ACI.
func ACI(ctx context.Context, s *store.Store, img *store.Image, w io.Writer) error {
	if _, err := os.Lstat(img.Config); err == nil {
		return Rendered(ctx, s, img, w)
	}
	text, err := os.Open(s.LayerFile(img.ID, unpack.RecipeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("its own layer is missing; fetch the image again")
	}
	if err != nil {
		return err
	}
	defer text.Close()
	root, err := os.Open(s.LayerPath(img.ID))
	if err != nil {
		return err
	}
	defer root.Close()
	h := sha512.New()
	err = recipe.Restore(io.MultiWriter(&interruptible{ctx, w}, h), text, root, nil)
	if err == nil && fmt.Sprintf("sha512-%x", h.Sum(nil)) != img.ID {
		err = errors.New("not what its ID says")
	}
	if err != nil {
		return fmt.Errorf("damaged: %w (rkt image verify tells more)", err)
	}
	return nil
}

// interruptible is a writer that fails when the context has ended.
type interruptible struct {
	ctx context.Context
	w   io.Writer
}

func (i *interruptible) Write(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.w.Write(p)
}

// Rendered writes an ACI of all that an app of the image sees, of whatever layers it is. The same
// image gives the same bytes.
func Rendered(ctx context.Context, s *store.Store, img *store.Image, w io.Writer) error {
	return pack(ctx, img.Manifest, img.Layers, filepath.Dir(img.Config), w)
}

// pack writes an ACI of layers, the lowest first. at is any directory.
func pack(ctx context.Context, m *schema.ImageManifest, layers []string, at string, w io.Writer) error {
	manifest, err := json.Marshal(m)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(&interruptible{ctx, w})
	h := &tar.Header{Typeflag: tar.TypeReg, Name: "manifest", Mode: 0o644, Size: int64(len(manifest)),
		ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := archive.WriteHeader(h); err != nil {
		return err
	}
	if _, err := archive.Write(manifest); err != nil {
		return err
	}
	err = overlay.Show(layers, at, func(root string) error {
		p := &packer{archive: archive, names: map[inode]string{}, buffer: make([]byte, 256<<10)}
		return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				err = p.add(path, "rootfs"+path[len(root):])
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	return archive.Close()
}

// packer puts files into an archive.
type packer struct {
	archive *tar.Writer
	names   map[inode]string // of files with more than one
	buffer  []byte
}

type inode struct{ dev, ino uint64 }

// add adds what is at path, which nobody changes, under a name.
func (p *packer) add(path, name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	h := &tar.Header{Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		i := inode{st.Dev, st.Ino}
		if first, ok := p.names[i]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return p.archive.WriteHeader(h)
		}
		p.names[i] = name
	}
	if err := describe(h, path, &st); err != nil {
		return err
	}
	if err := p.archive.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if kind != unix.S_IFREG {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{p.archive}, struct{ io.Reader }{f}, p.buffer)
	return err
}

// describe sets in h what a file's type asks for.
func describe(h *tar.Header, path string, st *unix.Stat_t) (err error) {
	kind := st.Mode & unix.S_IFMT
	switch kind {
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(path); err != nil {
			return err
		}
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return fmt.Errorf("%s: of a type that no archive has", h.Name)
	}
	if kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	if kind == unix.S_IFDIR || kind == unix.S_IFREG {
		attributes, err := unpack.Attributes(path)
		if err != nil {
			return err
		}
		for key, value := range attributes {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+key] = value
		}
	}
	return nil
}

// File writes a file by calling write, so that it is there whole or not at all. A file that is
// there already is an error, unless it is to be replaced.
func File(path string, overwrite bool, write func(w io.Writer) error) error {
	if err := free(path, overwrite, fs.FileMode.IsRegular, "a regular file"); err != nil {
		return err
	}
	f, err := durable.Create(path, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Place(overwrite); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return exists(path)
}

// Directory makes a directory of the ACI that write writes, of all of it or of its rootfs only. It
// is there whole or not at all.
func Directory(path string, rootfsOnly, overwrite bool, write func(w io.Writer) error) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if abs == "/" {
		return errors.New("/: this would replace all that there is")
	}
	if err := free(abs, overwrite, fs.FileMode.IsDir, "a directory"); err != nil {
		return err
	}
	tmp, lock, err := beside(abs)
	if err != nil {
		return err
	}
	defer lock.Close()
	out := filepath.Join(tmp, "out")
	err = fill(out, rootfsOnly, write)
	if err == nil {
		err = place(out, abs, overwrite)
	}
	return errors.Join(err, tree.Remove(tmp)) // and what was there before
}

// fill makes a directory of an ACI.
func fill(dir string, rootfsOnly bool, write func(w io.Writer) error) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Chmod(0o755); err != nil {
		return err
	}
	o := unpack.Options{}
	if rootfsOnly {
		o.Subtree = "rootfs"
		o.Outside = func(string, *tar.Header, io.Reader) error { return nil }
	}
	r, w := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		err := write(w)
		w.CloseWithError(err)
		wrote <- err
	}()
	err = unpack.Tar(root, r, o)
	r.CloseWithError(errors.New("unpacking ended"))
	if cause := <-wrote; cause != nil && (err == nil || errors.Is(err, cause)) {
		return cause
	}
	return err
}

// beside makes a directory in the same directory, which the next one for the same path finds and
// removes if this program is killed. It is locked.
func beside(path string) (tmp string, lock *os.File, err error) {
	digest := sha256.Sum256([]byte(filepath.Base(path)))
	tmp = filepath.Join(filepath.Dir(path), fmt.Sprintf(".rkt-%x", digest[:8]))
	for {
		made := os.Mkdir(tmp, 0o700)
		if made != nil && !errors.Is(made, fs.ErrExist) {
			return "", nil, made
		}
		lock, err := durable.Lock(tmp, 0)
		switch {
		case errors.Is(err, durable.ErrLocked):
			return "", nil, fmt.Errorf("%s: another program makes it just now", path)
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return "", nil, err
		case made == nil:
			return tmp, lock, nil
		}
		err = tree.Remove(tmp)
		lock.Close()
		if err != nil {
			return "", nil, err
		}
	}
}

func exists(path string) error { return fmt.Errorf("%s: exists (try --overwrite)", path) }

// free reports whether a file may be made.
func free(path string, overwrite bool, right func(fs.FileMode) bool, kind string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !overwrite:
		return exists(path)
	case !right(info.Mode()):
		return fmt.Errorf("%s: exists and is not %s", path, kind)
	}
	return nil
}

// place gives what was made its name. What has the name already changes places with it.
func place(tmp, path string, overwrite bool) error {
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if err == unix.EEXIST && overwrite {
		err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
	}
	if err == unix.EEXIST {
		return exists(path)
	}
	if err != nil {
		return &fs.PathError{Op: "rename", Path: path, Err: err}
	}
	return nil
}
