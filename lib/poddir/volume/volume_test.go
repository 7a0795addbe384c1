package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{"data": true, "a": true, "my-data-2": true, "": false, "-a": false,
		"a-": false, "A": false, "a_b": false, ".new-x": false, "a/b": false, "..": false, "a b": false, "a\n": false,
		strings.Repeat("a", 201): false} {
		if ValidName(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
}

// Many programs that want a volume at once have the same one, which is whole.
func TestEnsureAtOnce(t *testing.T) {
	v := In(t.TempDir())
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			held, err := v.Ensure("data", func(dir *os.File) error {
				return errors.Join(os.WriteFile(filepath.Join(dir.Name(), "a"), nil, 0o600),
					os.WriteFile(filepath.Join(dir.Name(), "b"), nil, 0o600))
			})
			if err != nil {
				t.Error(err)
				return
			}
			defer held.Close()
			if entries, err := os.ReadDir(v.Path("data")); err != nil || len(entries) != 2 {
				t.Errorf("%v, %v", entries, err)
			}
			if err := v.Remove("data"); !testkit.Says(err, "is being prepared") {
				t.Errorf("removed while it is held: %v", err)
			}
		})
	}
	all.Wait()
	if entries, err := os.ReadDir(v.dir()); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if err := v.Remove("data"); err != nil {
		t.Error(err)
	}
	if err := v.Remove("data"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a second time: %v", err)
	}
}

// A volume that can't be filled is not there; what a killed program has left is swept, what is
// being made is not.
func TestHalf(t *testing.T) {
	v := In(t.TempDir())
	full := errors.New("disk full")
	if _, err := v.Ensure("data", func(*os.File) error { return full }); !errors.Is(err, full) {
		t.Error(err)
	}
	held, err := v.Ensure("data", func(*os.File) error {
		if err := errors.Join(os.MkdirAll(v.Path(".new-1/x"), 0o700), os.MkdirAll(v.Path(".rm-2/data/x"),
			0o700)); err != nil {
			return err
		}
		return v.Sweep()
	})
	if err != nil {
		t.Fatal(err)
	}
	held.Close()
	entries, err := os.ReadDir(v.dir())
	if err != nil || len(entries) != 1 || entries[0].Name() != "data" {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestUsers(t *testing.T) {
	data := t.TempDir()
	v := In(data)
	held, err := v.Ensure("data", func(*os.File) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	held.Close()
	p, lock, err := poddir.In(data).Create(poddir.NewUUID())
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	line := v.Path("data") + " stage1/rootfs/opt/stage2/a/rootfs/data none rbind,nodev 0 0\n"
	for name, text := range map[string]string{poddir.MountsFile: line, poddir.ManifestFile: "{}"} {
		if err := os.WriteFile(p.Path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := v.List(); err != nil || len(all) != 1 || len(all[0].Pods) != 1 || all[0].Pods[0] != p.UUID {
		t.Errorf("%v, %v", all, err)
	}
	if err := v.Remove("data"); !testkit.Says(err, "is in use by pod "+p.UUID) {
		t.Error(err)
	}
	if err := os.WriteFile(p.Path(poddir.StartedFile), nil, 0o600); err != nil { // and not locked: it has exited
		t.Fatal(err)
	}
	if err := v.Remove("data"); err != nil {
		t.Error(err)
	}
}
