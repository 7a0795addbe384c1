// Package volume owns the named volumes of a data directory: a directory volumes/NAME each, which
// outlives the pods that mount it.
//
// Its lock, an flock(2) of the directory, is shared by programs that prepare a pod with it and
// taken by the one that removes it.
package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/tree"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"golang.org/x/sys/unix"
)

// ErrNotFound is the cause of the error for a volume that is not there.
var ErrNotFound = errors.New("no such volume; rkt volume list shows them")

// Prefixes of what is being made or removed, which Sweep removes once its maker has gone. No name
// begins with a dot.
const making, removing = ".new-", ".rm-"

// Volumes are those of a data directory.
type Volumes struct{ data string }

// In gives the volumes of a data directory.
func In(data string) Volumes { return Volumes{data} }

func (v Volumes) dir() string { return filepath.Join(v.data, "volumes") }

// Path is the directory of a volume.
func (v Volumes) Path(name string) string { return filepath.Join(v.dir(), name) }

// ValidName reports whether a volume can be called so: appc's AC Name, since a pod's manifest has
// it.
func ValidName(name string) bool {
	return name != "" && len(name) <= 200 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" &&
		name[0] != '-' && name[len(name)-1] != '-'
}

// Ensure returns a volume, opened, with its lock shared until that is closed. One that is not there
// is made: fill puts into the new directory what is to be in it. It appears with all of it or not
// at all.
func (v Volumes) Ensure(name string, fill func(dir *os.File) error) (*os.File, error) {
	for {
		held, err := v.share(name)
		if !errors.Is(err, fs.ErrNotExist) {
			return held, err
		}
		if err := v.make(name, fill); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
}

// share opens the volume that has the name now.
func (v Volumes) share(name string) (*os.File, error) {
	held, err := durable.Share(v.Path(name))
	if err != nil {
		return nil, err
	}
	var own, named unix.Stat_t
	err = errors.Join(unix.Fstat(int(held.Fd()), &own), unix.Lstat(v.Path(name), &named))
	if err == nil && own.Ino != named.Ino { // removed between open and flock
		err = fs.ErrNotExist
	}
	if err != nil {
		held.Close()
		return nil, err
	}
	return held, nil
}

func (v Volumes) make(name string, fill func(dir *os.File) error) (err error) {
	if err := os.MkdirAll(v.dir(), 0o700); err != nil {
		return err
	}
	stay, err := durable.Share(v.dir()) // Sweep would take the new one before it is locked
	if err != nil {
		return err
	}
	defer stay.Close()
	tmp, err := os.MkdirTemp(v.dir(), making)
	if err != nil {
		return err
	}
	lock, err := durable.Share(tmp)
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	defer lock.Close()
	stay.Close()
	if err = fill(lock); err == nil {
		err = durable.SyncTree(tmp)
	}
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, v.Path(name), unix.RENAME_NOREPLACE)
	}
	if err != nil {
		return errors.Join(err, tree.Remove(tmp))
	}
	return durable.SyncDir(v.dir())
}

// Volume is one of them, and the pods that mount it and have not exited.
type Volume struct {
	Name string   `json:"name"` // of the volume
	Path string   `json:"path"` // where it is on the host
	Pods []string `json:"pods"` // UUIDs of pods that mount it and have not exited
}

// List returns all volumes, by name.
func (v Volumes) List() ([]Volume, error) {
	entries, err := os.ReadDir(v.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return []Volume{}, nil
	}
	if err != nil {
		return nil, err
	}
	users, err := v.users()
	if err != nil {
		return nil, err
	}
	all := []Volume{}
	for _, e := range entries {
		if e.IsDir() && ValidName(e.Name()) {
			all = append(all, Volume{e.Name(), v.Path(e.Name()), append([]string{}, users[v.Path(e.Name())]...)})
		}
	}
	return all, nil
}

// users has for each path that pods mount the UUIDs of those that have not exited.
func (v Volumes) users() (map[string][]string, error) {
	pods, err := poddir.In(v.data).All()
	if err != nil {
		return nil, err
	}
	users := map[string][]string{}
	for _, p := range pods {
		state, err := p.State()
		if errors.Is(err, poddir.ErrNotFound) || err == nil && (state.Ended() || state == poddir.AbortedPrepare) {
			continue
		}
		if err != nil {
			return nil, err
		}
		text, err := p.ReadFile(poddir.MountsFile)
		if errors.Is(err, fs.ErrNotExist) { // being prepared: it shares the locks of its volumes
			continue
		}
		if err != nil {
			return nil, err
		}
		binds, err := fstab.Parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Path(poddir.MountsFile), err)
		}
		for _, b := range binds {
			if !slices.Contains(users[b.Source], p.UUID) {
				users[b.Source] = append(users[b.Source], p.UUID)
			}
		}
	}
	return users, nil
}

// Remove removes a volume with all that is in it. One that a pod mounts which has not exited is an
// error.
func (v Volumes) Remove(name string) error {
	if !ValidName(name) {
		return fmt.Errorf("volume %q: %w", name, ErrNotFound)
	}
	lock, err := durable.Lock(v.Path(name), 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("volume %q: %w", name, ErrNotFound)
	case errors.Is(err, durable.ErrLocked):
		return fmt.Errorf("volume %q: is in use: a pod is being prepared with it", name)
	case err != nil:
		return fmt.Errorf("volume %q: %w", name, err)
	}
	defer lock.Close()
	users, err := v.users()
	if err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	if pods := users[v.Path(name)]; len(pods) > 0 {
		return fmt.Errorf("volume %q: is in use by pod %s; stop it, or remove it if it is prepared, first", name,
			strings.Join(pods, ", "))
	}
	gone, err := os.MkdirTemp(v.dir(), removing)
	if err == nil {
		err = os.Rename(v.Path(name), filepath.Join(gone, name))
	}
	if err == nil {
		err = errors.Join(durable.SyncDir(v.dir()), tree.Remove(gone))
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound // another program was faster
	}
	if err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	return nil
}

// Sweep removes what killed programs have left half made or half removed. While a program makes a
// volume it does nothing.
func (v Volumes) Sweep() error {
	lock, err := durable.Lock(v.dir(), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, durable.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	entries, err := os.ReadDir(v.dir())
	errs := []error{err}
	for _, e := range entries {
		path := filepath.Join(v.dir(), e.Name())
		switch {
		case strings.HasPrefix(e.Name(), removing):
			errs = append(errs, tree.Remove(path))
		case strings.HasPrefix(e.Name(), making):
			made, err := durable.Lock(path, 0)
			if errors.Is(err, durable.ErrLocked) || errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = tree.Remove(path)
				made.Close()
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
