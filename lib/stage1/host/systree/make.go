package systree

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/tree"
)

// tries is how often a tree is begun anew when its sources change meanwhile.
const tries = 3

// errChanging says that the host's files are not the same for as long as a copy takes.
var errChanging = errors.New("its files are being replaced; try again when the upgrade has ended")

// make makes the tree of the programs, or finds that there is one of the same content, and returns
// its name. The caller holds the exclusive lock.
func (t Trees) make(programs []Program) (string, error) {
	if err := t.sweep(); err != nil {
		return "", err
	}
	for range tries {
		name, err := t.tryMake(programs)
		if !errors.Is(err, errChanging) {
			return name, err
		}
	}
	return "", errChanging
}

func (t Trees) tryMake(programs []Program) (name string, err error) {
	found, err := find(t.root, programs)
	if err != nil {
		return "", err
	}
	before := sources(t.root, found.asked)
	tmp, err := os.MkdirTemp(t.dir, newPrefix)
	if err != nil {
		return "", err
	}
	defer func() {
		if _, gone := os.Lstat(tmp); gone == nil {
			err = errors.Join(err, tree.Remove(tmp))
		}
	}()
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	if name, err = found.copy(tmp); err != nil {
		return "", err
	}
	if sources(t.root, found.asked) != before {
		return "", errChanging
	}
	dir := filepath.Join(t.dir, name)
	if _, err := os.Lstat(dir); err == nil { // the same content from other files, such as after a reinstallation
		return name, durable.WriteFile(filepath.Join(dir, sourcesFile), []byte(before), 0o644)
	}
	if err := os.WriteFile(filepath.Join(tmp, sourcesFile), []byte(before), 0o644); err != nil {
		return "", err
	}
	if err := durable.SyncTree(tmp); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return "", err
	}
	return name, durable.SyncDir(t.dir)
}

// copy writes the files of a tree into an empty directory and returns the digest of their paths and
// contents.
func (f *finder) copy(dir string) (string, error) {
	digest := sha256.New()
	fmt.Fprintf(digest, "format %s\n", format)
	for _, e := range f.sorted() {
		target := filepath.Join(dir, e.path)
		if err := mkdirAll(dir, filepath.Dir(e.path)); err != nil {
			return "", err
		}
		if e.source == "" {
			fmt.Fprintf(digest, "link %q %q\n", e.path, e.link)
			if err := os.Symlink(e.link, target); err != nil {
				return "", err
			}
			continue
		}
		mode, sum, err := copyFile(filepath.Join(f.root, e.source), target)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(digest, "file %q %o %x\n", e.path, mode, sum)
	}
	loader := f.ldso + "\n"
	for _, dir := range f.libraries {
		loader += dir + "\n"
	}
	fmt.Fprintf(digest, "loader %q\n", loader)
	if err := os.WriteFile(filepath.Join(dir, loaderFile), []byte(loader), 0o644); err != nil {
		return "", err
	}
	return hex.EncodeToString(digest.Sum(nil)[:16]), nil
}

// mkdirAll makes a directory and those above it, which everybody may read whatever the umask is.
func mkdirAll(root, dir string) error {
	at := root
	for name := range strings.SplitSeq(dir, "/") {
		if name == "." {
			continue
		}
		at = filepath.Join(at, name)
		switch err := os.Mkdir(at, 0o755); {
		case errors.Is(err, fs.ErrExist):
		case err != nil:
			return err
		default:
			if err := os.Chmod(at, 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyFile makes a file of root's with the content of another one, whose blocks it shares where the
// file system can. It returns what it has written: the mode and the digest of the content.
func copyFile(from, to string) (mode fs.FileMode, sum []byte, err error) {
	source, err := os.Open(from)
	if err != nil {
		return 0, nil, err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return 0, nil, err
	}
	if !info.Mode().IsRegular() {
		return 0, nil, fmt.Errorf("%s: not a regular file", from)
	}
	mode = 0o644
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	target, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return 0, nil, err
	}
	defer target.Close()
	if err := target.Chmod(mode); err != nil {
		return 0, nil, err
	}
	if _, err := io.Copy(target, source); err != nil { // by copy_file_range(2), which shares blocks where it can
		return 0, nil, err
	}
	if _, err := target.Seek(0, io.SeekStart); err != nil {
		return 0, nil, err
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, target); err != nil {
		return 0, nil, err
	}
	return mode, hash.Sum(nil), nil
}
