package fetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/host/openat"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/keystore"
	"github.com/rkt-toolkit/rkt/lib/image/part"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"golang.org/x/sys/unix"
)

// node is an ACI and what it depends on, in the order of its manifest.
type node struct {
	found
	below []*node
}

// tree fetches what an image depends on, and what that depends on. above are the IDs on the way to
// it.
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

// dependency finds an image that another one depends on (appc spec, aci.md, "Dependency Matching"):
// in the store if the policy lets it or its ID is given, else by discovery.
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
		if got, ok := f.have(w.id); ok { // who has signed what names it by its ID has signed it
			return got, w.check(got.manifest)
		}
	}
	if got, ok := f.got[key]; ok {
		return got, nil
	}
	var got found
	ok := false
	if f.options.PullPolicy != Update && w.id == "" {
		got, ok = f.stored(ref)
	}
	if ok {
		f.options.inStore(ref)
	}
	if !ok && f.options.PullPolicy == Never {
		return found{}, errors.New("not in the store, or not verified")
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

// relay lays an ACI of the store anew whose own signature counts, but that lies on something else
// since somebody has fetched it without verifying: on what it means by the names of its
// dependencies, as far as the store has that, verified.
func relay(ctx context.Context, s *store.Store, ref image.Reference, o Options) (*store.Image, error) {
	r := o.resolver(s)
	img, err := r.Own(ref)
	if err != nil {
		return nil, err
	}
	sig, err := r.Proof(img, ref)
	if err != nil {
		return nil, err
	}
	f := &acis{store: s, options: o, got: map[string]found{}}
	f.options.PullPolicy = Never
	t, err := f.tree(ctx, found{img.ID, img.Manifest, &sig.Proof}, nil)
	if err == nil {
		err = f.add(ctx, t, map[string]bool{})
	}
	if err != nil {
		return nil, err
	}
	return r.Lookup(ref)
}

// stored finds what an image that depends on another means by its name in the store.
func (f *acis) stored(ref image.Reference) (found, bool) {
	r := f.options.resolver(f.store)
	img, err := r.Own(ref)
	if err != nil {
		return found{}, false
	}
	got, ok := f.have(img.ID)
	if !f.verifies() {
		return got, ok
	}
	sig, err := r.Proof(img, ref)
	got.by = &sig.Proof
	return got, ok && err == nil
}

func stringLabels(labels types.Labels) map[string]string {
	all := map[string]string{}
	for _, l := range labels {
		all[l.Name.String()] = l.Value
	}
	return all
}

// parts lists what an image is made of, the uppermost first, as appc's acirenderer does: an image
// lies on what it depends on, and of its dependencies each lies on those before it.
func (n *node) parts(above []string, all []part.Part) ([]part.Part, error) {
	if len(all) >= maxLayers {
		return nil, fmt.Errorf("more than %d layers", maxLayers)
	}
	own := n.manifest.PathWhitelist
	all = append(all, part.Part{ID: n.id, Own: own, Above: above})
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
		p.Like, err = f.implied(p, all[i+1:])
		if err == nil {
			name, err = f.layer(ctx, p)
		}
		if err != nil {
			return fmt.Errorf("the part that %s has of it: %w", n.manifest.Name, err)
		}
		names = append(names, name)
	}
	if err := f.store.AddImage(ctx, n.id, n.manifest, names, nil); err != nil || !f.verifies() {
		return err
	}
	return f.record(n)
}

// record records who has signed an image and each that it lies on. Of one that needed no signature,
// since its ID was given, nothing is.
func (f *acis) record(n *node) error {
	if n.by == nil {
		return nil
	}
	name, err := image.AppcReference(n.manifest.Name.String(), nil)
	if err != nil {
		return err
	}
	return f.store.SetSignature(n.id, name, store.Signature{Proof: *n.by, Below: n.proofs(map[string]keystore.Proof{})})
}

// proofs adds the images that one lies on, by ID, with who has signed them.
func (n *node) proofs(all map[string]keystore.Proof) map[string]keystore.Proof {
	for _, below := range n.below {
		if proof, done := all[below.id]; !done || proof == (keystore.Proof{}) && below.by != nil {
			all[below.id] = keystore.Proof{}
			if below.by != nil {
				all[below.id] = *below.by
			}
		}
		below.proofs(all)
	}
	return all
}

// implied finds for each directory that the archive of an image only implies the nearest image
// below that has it and shows it.
func (f *acis) implied(p part.Part, below []part.Part) (map[string]string, error) {
	root := f.store.LayerPath(p.ID)
	if len(below) == 0 || !marked(root) {
		return nil, nil
	}
	like := map[string]string{}
	err := part.EachEntry(root, func(name string, d fs.DirEntry) error {
		if !d.IsDir() || !marked(filepath.Join(root, name)) {
			return nil
		}
		for _, q := range below {
			if directoryIn(f.store.LayerPath(q.ID), name) && q.Shows(name) {
				like[name] = q.ID
				break
			}
		}
		return nil
	})
	return like, err
}

// marked reports whether a directory of a layer has unpack's mark.
func marked(directory string) bool { return overlay.Marks(directory) != "" }

// directoryIn reports whether a layer has a directory of that name that its archive had, reached
// through no link.
func directoryIn(layer, name string) bool {
	root, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(root)
	fd, err := openat.FD(root, name, unix.O_PATH|unix.O_DIRECTORY, openat.NoLinks)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return !marked(filepath.Join(layer, name)) // no link on the way, and nobody changes a layer
}

// layer gives the name of the layer that is a part of an image: the image's own, or where a
// whitelist hides something of it or directories are to be like others, one of what is to be seen.
func (f *acis) layer(ctx context.Context, p part.Part) (string, error) {
	if p.Whole() {
		return p.ID, nil
	}
	name, _, err := p.Name()
	if err != nil {
		return "", err
	}
	if f.store.HasLayer(name) {
		return name, nil
	}
	if len(p.Like) == 0 {
		if hides, err := p.Hides(f.store.LayerPath(p.ID)); err != nil || !hides {
			return p.ID, err
		}
	}
	return f.store.AddPart(ctx, p)
}
