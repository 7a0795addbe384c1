package unpack

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/rkt-toolkit/rkt/lib/host/tree"
	"github.com/rkt-toolkit/rkt/lib/image/recipe"
)

// RecipeFile is the name of the file that Keep writes.
const RecipeFile = "recipe"

// Keep unpacks a stream as Tar does, and leaves in the directory dir, which is on the same file
// system as root and not below it, the recipe by which recipe.Restore gets the stream back from
// root.
func Keep(dir string, root *os.File, r io.Reader, o Options) error {
	aside := filepath.Join(dir, "aside")
	if err := os.Mkdir(aside, 0o700); err != nil {
		return err
	}
	err := keep(dir, aside, root, r, o)
	return errors.Join(err, tree.Remove(aside))
}

func keep(dir, aside string, root *os.File, r io.Reader, o Options) (err error) {
	if o.Aside, err = os.Open(aside); err != nil {
		return err
	}
	defer o.Aside.Close()
	file := filepath.Join(dir, RecipeFile)
	err = write(file, func(w *recipe.Writer) error {
		o.Recipe = w
		return Tar(root, r, o)
	})
	if err != nil {
		return err
	}
	replaced, err := os.ReadDir(aside)
	if err != nil || len(replaced) == 0 {
		return err
	}
	// An archive with a name twice, which is rare: what is not in the tree any more goes into the
	// recipe.
	short, err := os.Open(file)
	if err != nil {
		return err
	}
	defer short.Close()
	err = write(file+".whole", func(w *recipe.Writer) error { return recipe.Complete(w, short, root, o.Aside) })
	if err != nil {
		return err
	}
	return os.Rename(file+".whole", file)
}

func write(file string, fill func(w *recipe.Writer) error) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	w := recipe.NewWriter(f)
	if err = fill(w); err == nil {
		err = w.Close()
	}
	return errors.Join(err, f.Close())
}
