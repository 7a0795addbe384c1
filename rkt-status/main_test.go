package main

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod"
	"github.com/rkt-toolkit/rkt/lib/status"
)

// A pod that is removed while it is looked at is no pod.
func TestRemoved(t *testing.T) {
	p, lock, err := pod.In(t.TempDir()).Create(pod.NewUUID())
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	for name, text := range map[string]string{pod.ManifestFile: `{"acKind":"PodManifest"}`, pod.PIDFile: "1\n", pod.StartedFile: ""} {
		if err := os.WriteFile(p.Path(name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	s, err := status.Read(p)
	if err != nil {
		t.Fatal(err)
	}
	process := &cli.Process{Stdout: io.Discard}
	if err := write(process, p, s); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(p.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := write(process, p, s); !errors.Is(err, pod.ErrNotFound) {
		t.Errorf("of a removed pod: %v", err)
	}
}
