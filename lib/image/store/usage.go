package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Usage is what a store takes of its disk, in bytes, each file counted once.
type Usage struct {
	Layers map[string]int64    // by name; what a layer has links to is counted with that one
	Needs  map[string][]string // by an image's ID: the layers that it needs, lowest first
	Index  int64               // images, names and records
	Work   int64               // what is being fetched or removed, and parts of downloads that were interrupted
}

// Usage looks how much of its disk the store takes. Other programs may use it meanwhile.
func (s *Store) Usage() (Usage, error) {
	u := Usage{Layers: map[string]int64{}, Needs: map[string][]string{}}
	d := disk{}
	entries, err := os.ReadDir(s.path("layer"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return u, err
	}
	// Archives come before the parts, "part-…" before "sha…": backwards.
	for _, e := range slices.Backward(entries) {
		if u.Layers[e.Name()], err = d.usage(s.path("layer", e.Name())); err != nil {
			return u, err
		}
	}
	for _, directory := range []string{"image", "blob", "ref", "remote", "version", "tmp", "partial"} {
		n, err := d.usage(s.path(directory))
		if err != nil {
			return u, err
		}
		// The directories of work are there without any.
		if entries, err := os.ReadDir(s.path(directory)); (directory == "tmp" || directory == "partial") &&
			err == nil && len(entries) > 0 {
			u.Work += n
		} else {
			u.Index += n
		}
	}
	ids, err := s.Records()
	if err != nil {
		return u, err
	}
	for _, id := range ids {
		names, err := s.layerNames("image", id)
		if errors.Is(err, fs.ErrNotExist) {
			names, err = s.layerNames("blob", id) // lost from the index
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return u, err
		}
		u.Needs[id] = slices.DeleteFunc(s.needs(id, names), func(name string) bool {
			_, there := u.Layers[name]
			return !there
		})
	}
	return u, nil
}

// disk has the files that are counted already, by device and inode, of those that have more than
// one name.
type disk map[[2]uint64]bool

// usage is what is at a path takes of the disk, as du(1) has it.
func (d disk) usage(path string) (size int64, err error) {
	err = filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			if err = unix.Lstat(path, &st); err != nil {
				err = &fs.PathError{Op: "lstat", Path: path, Err: err}
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if inode := [2]uint64{st.Dev, st.Ino}; st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if d[inode] {
				return nil
			}
			d[inode] = true
		}
		size += st.Blocks * 512
		return nil
	})
	return size, err
}
