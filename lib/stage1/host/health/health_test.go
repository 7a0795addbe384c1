package health

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCount(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "health")
	for want := 1; want < 4; want++ {
		if n, err := count(dir, "app"); err != nil || n != want {
			t.Errorf("%d, %v, want %d", n, err, want)
		}
	}
	if n, err := count(dir, "other"); err != nil || n != 1 {
		t.Errorf("another app: %d, %v", n, err)
	}
	if err := passed(dir, "app"); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "app")); err != nil || string(text) != "0\n" {
		t.Errorf("passed: %q, %v", text, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "app"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := count(dir, "app"); err != nil || n != 1 {
		t.Errorf("a damaged count: %d, %v", n, err)
	}
}

func TestKill(t *testing.T) {
	group := t.TempDir()
	file := filepath.Join(group, "cgroup.kill")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := kill([]string{"/no/such/group", group}); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "1" {
		t.Errorf("%q, %v", text, err)
	}
	if err := kill([]string{"/no/such/group"}); err == nil {
		t.Error("killed nobody, without an error")
	}
}
