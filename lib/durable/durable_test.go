package durable

import (
	"errors"
	"os"
	"path/filepath"
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
		t.Errorf("left in the folder: %v, %v", left, err)
	}
	if err := WriteFile(filepath.Join(dir, "absent", "f"), nil, 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
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
