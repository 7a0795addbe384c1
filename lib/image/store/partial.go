package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/image"
)

// partialAge is how long a part of a download is kept.
const partialAge = 24 * time.Hour

// Partial keeps what has come of a download, so that the next one can go on where this one was
// killed. Of several processes that want one download, one has it and the others wait.
type Partial struct {
	File      *os.File // what has come; writes append to it
	Size      int64    // of it when it was opened
	Validator string   // by which the server knows what it is a part of; "" if Size is 0

	draft *draft
}

// Partial opens what has come of a URL.
func (s *Store) Partial(ctx context.Context, url image.Reference) (*Partial, error) {
	if err := s.make(ctx); err != nil {
		return nil, err
	}
	if err := os.Mkdir(s.path("partial"), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	d, err := hold(ctx, s.path("partial", filepath.Base(url.Key())), func() bool { return false })
	if err != nil {
		return nil, err
	}
	p := &Partial{draft: d}
	if p.File, err = os.OpenFile(filepath.Join(d.path, "data"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return nil, errors.Join(err, d.lock.Close())
	}
	text, err := os.ReadFile(filepath.Join(d.path, "validator"))
	boot, validator, ok := strings.Cut(string(text), "\n")
	if err != nil || !ok || boot != bootID() { // written before a power failure, maybe
		return p, p.Restart("")
	}
	p.Validator = validator
	p.Size, err = p.File.Seek(0, io.SeekEnd)
	return p, err
}

// bootID reports whether the machine was started again since. Nothing is synced, so after a failure
// of power the file may have holes.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(id))
}

// Restart begins anew, with a resource of that validator.
func (p *Partial) Restart(validator string) error {
	file := filepath.Join(p.draft.path, "validator")
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.File.Truncate(0); err != nil {
		return err
	}
	p.Size, p.Validator = 0, validator
	if validator == "" {
		return nil
	}
	return os.WriteFile(file, []byte(bootID()+"\n"+validator), 0o600)
}

// Keep leaves it for the next one.
func (p *Partial) Keep() error { return errors.Join(p.File.Close(), p.draft.lock.Close()) }

// Drop removes it.
func (p *Partial) Drop() error { return errors.Join(p.File.Close(), p.draft.discard()) }
