// Package part is what an image has of an ACI's layer where a pathWhitelist hides something of it, or where folders are to be like
// those of other images: a layer of its own, with hard links to the files of that one, so that it costs folders and names.
package part

import (
	"crypto/sha512"
	"encoding/json"
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

// File is the name of the file that says, beside the layer's folder, what the layer is: a Part as JSON.
const File = "part"

// Part is what an image has of one of the images that it is made of.
type Part struct {
	ID    string   `json:"id"`
	Own   []string `json:"own,omitempty"`   // pathWhitelist of that image, for files; nil if all are taken
	Above []string `json:"above,omitempty"` // that of the uppermost image that is made of it, for files and folders

	// Like has the folders that the image's archive only implies, and the images below that have them: acirenderer would make one of
	// both, like that of the image below, and overlayfs takes owner and mode of the upper one.
	Like map[string]string `json:"like,omitempty"`
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
func (p Part) Whole() bool { return len(p.Own) == 0 && len(p.Above) == 0 && len(p.Like) == 0 }

// Shows tells whether a folder of that name is seen, if the image has it.
func (p Part) Shows(name string) bool { return len(p.Above) == 0 || pathSet(p.Above)[name] }

// Hides tells whether the whitelists hide anything of the image's own layer.
func (p Part) Hides(layer string) (bool, error) {
	return whitelist{pathSet(p.Own), pathSet(p.Above)}.hides(layer)
}

// Link fills an empty folder with what is seen; layer gives the folders of images' own layers.
func (p Part) Link(to string, layer func(id string) string) error {
	return whitelist{pathSet(p.Own), pathSet(p.Above)}.link(layer(p.ID), to, func(name string) string {
		if id, ok := p.Like[name]; ok {
			return layer(id)
		}
		return layer(p.ID)
	})
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

// hides tells whether anything in a folder is not taken.
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

// link fills the empty folder to with what is taken of the folder from; like tells in which folder to look how one of a name is to be.
// Nobody else changes any of them, and no link in them is followed.
func (w whitelist) link(from, to string, like func(name string) string) error {
	made, order := map[string]bool{".": true}, []string{"."}
	var mkdir func(name string) error
	mkdir = func(name string) error { // and those above it
		if made[name] {
			return nil
		}
		if err := mkdir(path.Dir(name)); err != nil {
			return err
		}
		made[name], order = true, append(order, name)
		return os.Mkdir(filepath.Join(to, name), 0o700)
	}
	err := EachEntry(from, func(name string, d fs.DirEntry) error {
		switch {
		case !w.has(name, d):
			return nil
		case d.IsDir():
			return mkdir(name)
		}
		if err := mkdir(path.Dir(name)); err != nil {
			return err
		}
		return os.Link(filepath.Join(from, name), filepath.Join(to, name))
	})
	if err != nil {
		return err
	}
	for _, name := range slices.Backward(order) { // the deepest first: what is made in a folder changes its time
		if err := likeFolder(filepath.Join(like(name), name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return nil
}

// likeFolder gives a folder owner, mode, attributes and times of another.
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

// EachEntry calls f for all that is in a folder, at any depth, with its name there.
func EachEntry(dir string, f func(name string, d fs.DirEntry) error) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		return f(p[len(dir)+1:], d)
	})
}
