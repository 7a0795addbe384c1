package store

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// sumFile is the file of an image that Check compares with: lines "NAME sha512-DIGEST" of the
// image's other files, and of its layers "NAME MODE OWNER:GROUP TIME", of the root directory.
const sumFile = "sum"

// Check looks whether an image is what it was when it came into the store, as far as that can be
// done in a moment: that its manifest, list of layers and config are the same bytes, that a config
// is the one whose digest is the ID, and that the top directory of each layer has the mode, owner
// and time that it had, which changes with every entry that is added to it or taken from it. It
// does not look at the files below; package verify does.
func (s *Store) Check(img *Image) error {
	want, err := os.ReadFile(s.path("image", img.ID, sumFile))
	if err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	config, noConfig := os.ReadFile(img.Config)
	got, err := s.sum(func(name string) ([]byte, error) {
		switch name {
		case "manifest":
			return img.manifest, nil
		case "layers":
			return img.layers, nil
		}
		return config, noConfig
	}, img.Layers)
	if err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	expected := strings.Split(string(want), "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(expected) || line != expected[i] {
			name, _, _ := strings.Cut(line, " ")
			return fmt.Errorf("damaged: %s is not what it was (rkt image verify tells more; rkt image rm and rkt "+
				"fetch replace it)", name)
		}
	}
	if noConfig == nil && fmt.Sprintf("sha512-%x", sha512.Sum512(config)) != img.ID {
		return errors.New("damaged: config is not what the ID says (rkt image rm and rkt fetch replace it)")
	}
	return nil
}

// Still reports whether an image that was read is in the store still, whole.
func (s *Store) Still(img *Image) error {
	if _, err := os.Lstat(s.path("image", img.ID, "manifest")); errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	} else if err != nil {
		return err
	}
	for _, layer := range img.Layers {
		if name := LayerName(layer); !s.HasLayer(name) {
			return fmt.Errorf("incomplete: layer %s is missing; fetch the image again", name)
		}
	}
	return nil
}

// sumOf is sum for the files in a directory.
func (s *Store) sumOf(dir string, layers []string) (string, error) {
	return s.sum(func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, name)) }, layers)
}

// sum is the text of a sumFile, for the other files of an image and these layers.
func (s *Store) sum(read func(name string) ([]byte, error), layers []string) (string, error) {
	text := ""
	for _, name := range []string{"manifest", "layers", "config"} {
		data, err := read(name)
		if errors.Is(err, fs.ErrNotExist) && name == "config" {
			continue
		}
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf("%s sha512-%x\n", name, sha512.Sum512(data))
	}
	for _, layer := range layers {
		var st unix.Stat_t
		if err := unix.Lstat(layer, &st); err != nil {
			return "", &fs.PathError{Op: "lstat", Path: layer, Err: err}
		}
		text += fmt.Sprintf("%s %o %d:%d %d\n", LayerName(layer), st.Mode, st.Uid, st.Gid, st.Mtim.Nano())
	}
	return text, nil
}
