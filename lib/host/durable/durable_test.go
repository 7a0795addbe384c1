package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, text := range []string{"one", "", "three"} {
		if err := WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Errorf("%q, %v; want %q", got, err, text)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
	if err := WriteFile(filepath.Join(dir, "absent", "f"), nil, 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

func TestCreate(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/proc/self"} { // which can't have files
		f, err := Create(dir+"/f", 0o600)
		if dir == "/proc/self" {
			if err == nil {
				t.Error("made a file in /proc")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("in the directory before its time: %v", left)
		}
		if err := f.Place(false); err != nil {
			t.Error(err)
		}
		f.Close()
		f, err = Create(dir+"/f", 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Place(false); !errors.Is(err, os.ErrExist) {
			t.Errorf("the name is taken: %v", err)
		}
		f.Close()
		for _, program := range []int{1, 2} { // both at the same time; the first has been killed at the worst moment
			f, err := Create(dir+"/f", 0o600)
			if err != nil {
				t.Fatal(err)
			}
			if program == 1 {
				if err := errors.Join(f.link(f.tmp), f.File.Close()); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err := f.Place(true); err != nil {
				t.Error(err)
			}
			f.Close()
		}
		if left, _ := os.ReadDir(dir); len(left) != 1 {
			t.Errorf("left in the directory: %v", left)
		}
	}
}

// TestMany has many programs write one file: it is always one of theirs, whole.
func TestMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	errs := make(chan error)
	for i := range 20 {
		go func() {
			text := strings.Repeat(string(rune('a'+i)), 10000)
			var err error
			for range 20 {
				err = errors.Join(err, WriteFile(path, []byte(text), 0o600))
			}
			errs <- err
		}()
	}
	for range 20 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(path); err != nil || len(got) != 10000 ||
			strings.Trim(string(got), string(got[:1])) != "" {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
}

func TestSyncTree(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere", filepath.Join(dir, "a/link")); err != nil {
		t.Fatal(err)
	}
	if err := SyncTree(dir); err != nil {
		t.Error(err)
	}
	if err := SyncTree(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a tree that is not there: %v", err)
	}
	if err := SyncTree(dir, filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a parent that is not there: %v", err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	if locked, err := Locked(dir); locked || err != nil {
		t.Errorf("nobody has it: %v, %v", locked, err)
	}
	lock, err := Lock(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if locked, err := Locked(dir); !locked || err != nil {
		t.Errorf("held: %v, %v", locked, err)
	}
	begin := time.Now()
	if _, err := Lock(dir, 50*time.Millisecond); !errors.Is(err, ErrLocked) || time.Since(begin) < 50*time.Millisecond {
		t.Errorf("a second lock: %v after %s", err, time.Since(begin))
	}
	waited := make(chan error)
	go func() { waited <- WaitUnlocked(dir) }()
	select {
	case err := <-waited:
		t.Errorf("did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	lock.Close()
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(filepath.Join(dir, "link"), 0); err == nil {
		t.Error("followed a link")
	}
	if _, err := Locked(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

// TestLockQueued: who waits longer is queued by the kernel, gets the lock when it is let go of, and
// gives up in time.
func TestLockQueued(t *testing.T) {
	dir := t.TempDir()
	lock, err := Lock(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := Lock(dir, queueing); !errors.Is(err, ErrLocked) || time.Since(begin) < queueing {
		t.Errorf("held: %v after %s", err, time.Since(begin))
	}
	got := make(chan error)
	const many = 5
	for range many {
		go func() {
			f, err := Lock(dir, time.Minute)
			if err == nil {
				err = f.Close()
			}
			got <- err
		}()
	}
	select {
	case err := <-got:
		t.Errorf("two have it: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	lock.Close()
	for range many {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
	if f, err := Lock(dir, time.Minute); err != nil { // the one that gave up keeps nothing
		t.Error(err)
	} else {
		f.Close()
	}
}
