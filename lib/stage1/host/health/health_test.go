package health

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/stage1"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	s := stage1.NewHealthState()
	s.Add(stage1.Check{Status: 1, Output: "no"}, 0)
	if err := write(dir, "app", s); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "app"))
	if got := stage1.ParseHealthState(text); err != nil || got.Failed != 1 || len(got.Checks) != 1 {
		t.Errorf("%+v, %v", got, err)
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
