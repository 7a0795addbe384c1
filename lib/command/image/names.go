package image

import (
	"cmp"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/store"
)

// names are what images are called: by ID, the names that mean each now, sorted.
type names map[string][]image.Reference

func namesIn(s *store.Store) (names, error) {
	refs, err := s.Refs()
	if err != nil {
		return nil, err
	}
	all := names{}
	for _, ref := range refs {
		if parsed, ok := image.ParseKey(ref.Key); ok { // one that was too long for a key cannot be had again
			all[ref.ID] = append(all[ref.ID], parsed)
		}
	}
	return all, nil
}

// of gives the names of an image as they can be typed: first the one in its manifest, as rkt 1.30
// lists it, unless that means another image by now. was is that one then.
func (n names) of(s *store.Store, img *store.Image) (typed []string, was string) {
	first := described(img)
	id, err := find(s, first)
	switch {
	case err != nil: // no command line can have it
	case id == img.ID:
		typed = append(typed, first)
	default:
		was = first
	}
	var others []string
	for _, ref := range n[img.ID] {
		if ref.Name() != first || was != "" {
			others = append(others, ref.Typed())
		}
	}
	slices.Sort(others)
	return append(typed, others...), was
}

// described is the name in an image's manifest, with the version if it has one.
func described(img *store.Image) string {
	name := img.Manifest.Name.String()
	if version, ok := img.Manifest.Labels.Get("version"); ok {
		name += ":" + version
	}
	return name
}

// shown is the text of the column: all names, and what the image was called until that name came to
// mean another one.
func (e entry) shown() string {
	text := cmp.Or(strings.Join(e.Names, " "), "-")
	if e.Was != "" {
		text += " (was " + e.Was + ")"
	}
	return text
}
