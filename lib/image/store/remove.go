package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/image/part"
	"golang.org/x/sys/unix"
)

// Users tells which layers are in use outside of the store, and by whom: by lists of their names,
// lowest first, with a space between them.
type Users func() (map[string]string, error)

var errInUse = errors.New("is in use")

// Remove takes an image, by its ID or a unique prefix of it, out of the store: its names, itself,
// and those of its layers that no other image has and nobody uses. Whoever uses the image goes on
// with its layers, which Collect removes after the last of them.
//
// There is no lock that whoever uses images would have to hold. What is removed is first renamed
// out of sight, and then the users are asked: one who comes later does not find it, and one who
// came before is seen, and what he uses is put back. For that, a user looks for the image again
// once it can be seen to use it (see package prepare), and AddImage looks for the layers again.
func (s *Store) Remove(ctx context.Context, id string, users Users) error {
	return s.remove(ctx, id, users, false)
}

// remove is Remove, or with unused an error that is errInUse for an image that somebody uses.
func (s *Store) remove(ctx context.Context, id string, users Users, unused bool) error {
	id, err := s.complete(id)
	if err != nil {
		return err
	}
	names, err := s.layerNames("image", id)
	if errors.Is(err, fs.ErrNotExist) {
		names, err = s.layerNames("blob", id)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	d, err := s.begin(ctx, "remove-"+id, func() bool { return false })
	if err != nil {
		return err
	}
	// The record goes first: one without an image is of an image that was lost.
	places := [][2]string{{filepath.Join(d.path, "image"), s.path("image", id)}, {filepath.Join(d.path, "record"),
		s.path("blob", id)}}
	putBack := func() error {
		return errors.Join(s.putBack(places[0][0], places[0][1]), s.putBack(places[1][0], places[1][1]))
	}
	there := false
	for _, place := range slices.Backward(places) {
		err := os.Rename(place[1], place[0])
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, putBack(), d.discard())
		}
		there = there || err == nil
	}
	if !there { // another was faster
		return errors.Join(ErrNotFound, d.discard())
	}
	used, err := users()
	if who := used[strings.Join(names, " ")]; err == nil && who != "" && unused {
		err = fmt.Errorf("%w by %s", errInUse, who)
	}
	if err != nil {
		return errors.Join(err, putBack(), d.discard())
	}
	var errs []error
	for _, name := range s.needs(id, names) {
		errs = append(errs, s.removeLayer(d, name, users))
	}
	refs, err := s.Refs()
	errs = append(errs, err)
	for _, ref := range refs {
		if ref.ID == id {
			errs = append(errs, os.Remove(s.path("ref", ref.Key)))
		}
	}
	return errors.Join(append(errs, d.discard())...)
}

// putBack undoes a rename, if there was one, unless somebody has put the same there meanwhile.
func (s *Store) putBack(aside, place string) error {
	err := os.Rename(aside, place)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeLayer removes a layer that nobody needs.
func (s *Store) removeLayer(d *draft, name string, users Users) error {
	needed, err := s.needed(name, users)
	if err != nil || needed {
		return err
	}
	aside := filepath.Join(d.path, name)
	if err := os.Rename(s.path("layer", name), aside); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if needed, err = s.needed(name, users); err != nil || needed {
		return errors.Join(err, s.putBack(aside, s.path("layer", name)))
	}
	return nil // it goes with the draft
}

func (s *Store) needed(name string, users Users) (bool, error) {
	used, err := users()
	if err != nil {
		return false, err
	}
	for list := range used {
		if slices.Contains(strings.Fields(list), name) {
			return true, nil
		}
	}
	for _, dir := range []string{"image", "blob"} { // an index that is damaged, or lost, is no reason to lose more
		ids, err := s.idsIn(dir)
		if err != nil {
			return false, err
		}
		for _, id := range ids {
			names, err := s.layerNames(dir, id)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return false, err
			}
			if err == nil && slices.Contains(s.needs(id, names), name) {
				return true, nil
			}
		}
	}
	return false, nil
}

// needs are the layers that an image needs: those that are seen, those that parts among them are
// made of, and of an ACI its own, even if only a part of it is seen.
func (s *Store) needs(id string, layers []string) []string {
	all := slices.Clone(layers)
	add := func(name string) {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	add(id)
	for i := 0; i < len(all); i++ { // a part may be like another one
		if !strings.HasPrefix(all[i], "part-") {
			continue
		}
		text, err := os.ReadFile(s.LayerFile(all[i], part.File))
		if err != nil { // it is not there, or damaged, and Image or package verify tells
			continue
		}
		if p, err := part.Parse(text); err == nil {
			for _, name := range p.Needs() {
				add(name)
			}
		}
	}
	return all
}

// layerNames are the names of an image's layers, as the index (directory "image") or its record
// ("blob") has them.
func (s *Store) layerNames(directory, id string) ([]string, error) {
	text, err := os.ReadFile(s.path(directory, id, "layers"))
	return strings.Fields(string(text)), err
}

// Layers are those of an image, in the form in which Users has them.
func (s *Store) Layers(id string) (string, error) {
	names, err := s.layerNames("image", id)
	return strings.Join(names, " "), err
}

// Collect removes the images that were last used before a time and that nobody uses, and the layers
// that no image and nobody needs and that came into the store before that time. It returns the IDs
// of the images.
func (s *Store) Collect(ctx context.Context, before time.Time, users Users) (removed []string, err error) {
	ids, err := s.Images()
	if err != nil {
		return nil, err
	}
	var errs []error
	lost, err := s.lost()
	if err != nil {
		return nil, err
	}
	for _, id := range lost {
		errs = append(errs,
			fmt.Errorf("image %s: lost from the index (rkt image reindex brings it back, rkt image rm removes it)", id))
	}
	for _, id := range ids {
		_, last := s.Times(id)
		if last >= before.UnixNano() {
			continue
		}
		if _, err := os.Lstat(s.path("blob", id)); last == 0 && err == nil {
			errs = append(errs, fmt.Errorf("image %s: damaged: it has no manifest (rkt image reindex makes it anew, "+
				"rkt image rm removes the image)", id))
			continue
		}
		switch err := s.remove(ctx, id, users, true); {
		case err == nil:
			removed = append(removed, id)
		case !errors.Is(err, errInUse) && !errors.Is(err, ErrNotFound):
			errs = append(errs, fmt.Errorf("image %s: %w", id, err))
		}
	}
	layers, err := os.ReadDir(s.path("layer"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, layer := range layers {
		var st unix.Stat_t // the change time is when it was renamed into the store; the others are the image's
		if !validLayer(layer.Name()) || unix.Lstat(s.path("layer", layer.Name()), &st) != nil ||
			time.Unix(st.Ctim.Unix()).After(before) {
			continue
		}
		if needed, err := s.needed(layer.Name(), users); err != nil || needed {
			errs = append(errs, err)
			continue
		}
		d, err := s.begin(ctx, "remove-"+layer.Name(), func() bool { return false })
		if err != nil {
			return removed, errors.Join(append(errs, err)...)
		}
		errs = append(errs, s.removeLayer(d, layer.Name(), users), d.discard())
	}
	return removed, errors.Join(append(errs, s.Clean())...)
}
