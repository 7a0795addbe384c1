package fetch

import (
	"context"
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

	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/store"
	"github.com/rkt-toolkit/rkt/lib/unpack"
	"golang.org/x/sys/unix"
)

// node is an ACI and what it depends on, in the order of its manifest.
type node struct {
	found
	below []*node
}

// tree fetches what an image depends on, and what that depends on. above are the IDs on the way to it.
func (f *acis) tree(ctx context.Context, root found, above []string) (*node, error) {
	if slices.Contains(above, root.id) {
		return nil, fmt.Errorf("%s depends on itself", root.manifest.Name)
	}
	if f.images++; f.images > maxLayers {
		return nil, fmt.Errorf("it depends on more than %d images", maxLayers)
	}
	n := &node{found: root}
	above = append(slices.Clip(above), root.id)
	for _, d := range root.manifest.Dependencies {
		got, err := f.dependency(ctx, d)
		if err == nil {
			var below *node
			below, err = f.tree(ctx, got, above)
			n.below = append(n.below, below)
		}
		if err != nil {
			return nil, fmt.Errorf("dependency %s: %w", d.ImageName, err)
		}
	}
	return n, nil
}

// dependency finds an image that another one depends on (appc spec, aci.md, "Dependency Matching"): in the store if the policy lets it
// or its ID is given, else by discovery.
func (f *acis) dependency(ctx context.Context, d types.Dependency) (found, error) {
	ref, err := image.AppcReference(d.ImageName.String(), stringLabels(d.Labels))
	if err != nil {
		return found{}, err
	}
	w := want{name: ref, size: int64(d.Size)}
	if w.size < 0 {
		return found{}, fmt.Errorf("a size of %d bytes", d.Size)
	}
	key := ref.Key()
	if d.ImageID != nil && !d.ImageID.Empty() {
		w.id = d.ImageID.String()
		key += " " + w.id
		if got, ok := f.have(w.id); ok {
			return got, w.check(got.manifest)
		}
	}
	if got, ok := f.got[key]; ok {
		return got, nil
	}
	var got found
	ok := false
	if f.options.PullPolicy != Update && w.id == "" {
		var id string
		if id, err = f.store.Lookup(ref); errors.Is(err, store.ErrNotFound) {
			id, err = f.store.Find(ref)
		}
		if err == nil {
			got, ok = f.have(id)
		}
	}
	if !ok {
		if got, err = f.get(ctx, ref, w); err != nil {
			return found{}, err
		}
	}
	f.got[key] = got
	f.names = append(f.names, known{ref, got.id})
	return got, nil
}

func stringLabels(labels types.Labels) map[string]string {
	all := map[string]string{}
	for _, l := range labels {
		all[l.Name.String()] = l.Value
	}
	return all
}

// part is what an image has of one of the images that it is made of.
type part struct {
	id    string
	own   []string // pathWhitelist of that image, for files; nil if all are taken
	above []string // that of the uppermost image that is made of it, for files and folders

	// like has the folders that the image's archive only implies, and the images below that have them: acirenderer would make one of
	// both, like that of the image below, and overlayfs takes owner and mode of the upper one.
	like map[string]string
}

// parts lists what an image is made of, the uppermost first, as appc's acirenderer does: an image lies on what it depends on, and of
// its dependencies each lies on those before it.
func (n *node) parts(above []string, all []part) ([]part, error) {
	if len(all) >= maxLayers {
		return nil, fmt.Errorf("more than %d layers", maxLayers)
	}
	own := n.manifest.PathWhitelist
	all = append(all, part{id: n.id, own: own, above: above})
	if len(above) == 0 {
		above = own
	}
	for _, below := range slices.Backward(n.below) {
		var err error
		if all, err = below.parts(above, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// add puts an image and those that it depends on into the store; their layers are there.
func (f *acis) add(ctx context.Context, n *node, done map[string]bool) error {
	if done[n.id] {
		return nil
	}
	done[n.id] = true
	for _, below := range n.below {
		if err := f.add(ctx, below, done); err != nil {
			return err
		}
	}
	all, err := n.parts(nil, nil)
	if err != nil {
		return err
	}
	var names []string
	for i, p := range slices.Backward(all) {
		name := ""
		p.like, err = f.implied(p, all[i+1:])
		if err == nil {
			name, err = f.layer(ctx, p)
		}
		if err != nil {
			return fmt.Errorf("the part that %s has of it: %w", n.manifest.Name, err)
		}
		names = append(names, name)
	}
	return f.store.AddImage(ctx, n.id, n.manifest, names, nil)
}

// implied finds for each folder that the archive of an image only implies the nearest image below that has it and shows it.
func (f *acis) implied(p part, below []part) (map[string]string, error) {
	root := f.store.LayerPath(p.id)
	if len(below) == 0 || !marked(root) {
		return nil, nil
	}
	like := map[string]string{}
	err := eachEntry(root, func(name string, d fs.DirEntry) error {
		if !d.IsDir() || !marked(filepath.Join(root, name)) {
			return nil
		}
		for _, q := range below {
			if folderIn(f.store.LayerPath(q.id), name) && (len(q.above) == 0 || pathSet(q.above)[name]) {
				like[name] = q.id
				break
			}
		}
		return nil
	})
	return like, err
}

// marked tells whether a folder of a layer has unpack's mark.
func marked(folder string) bool {
	n, err := unix.Lgetxattr(folder, unpack.Implied, nil)
	return err == nil && n > 0
}

// folderIn tells whether a layer has a folder of that name that its archive had, reached through no link.
func folderIn(layer, name string) bool {
	root, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return false
	}
	unix.Close(fd)
	return !marked(filepath.Join(layer, name)) // no link on the way, and nobody changes a layer
}

// layer gives the name of the layer that is a part of an image: the image's own, or where a whitelist hides something of it or folders
// are to be like others, one of what is to be seen. Its files are the same inodes, so it costs folders and names.
func (f *acis) layer(ctx context.Context, p part) (string, error) {
	if len(p.own) == 0 && len(p.above) == 0 && len(p.like) == 0 {
		return p.id, nil
	}
	text, err := json.Marshal([]any{p.id, p.own, p.above, p.like})
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("part-%x", sha512.Sum512(text))
	if f.store.HasLayer(name) {
		return name, nil
	}
	from := f.store.LayerPath(p.id)
	seen := whitelist{pathSet(p.own), pathSet(p.above)}
	if len(p.like) == 0 {
		if hides, err := seen.hides(from); err != nil || !hides {
			return p.id, err
		}
	}
	return name, f.store.AddLayer(ctx, name, func(root *os.File) error {
		return seen.link(from, root.Name(), func(name string) string {
			if id, ok := p.like[name]; ok {
				return f.store.LayerPath(id)
			}
			return from
		})
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
	err = eachEntry(from, func(name string, d fs.DirEntry) error {
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
	err := eachEntry(from, func(name string, d fs.DirEntry) error {
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

// eachEntry calls f for all that is in a folder, at any depth, with its name there.
func eachEntry(dir string, f func(name string, d fs.DirEntry) error) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		return f(p[len(dir)+1:], d)
	})
}
