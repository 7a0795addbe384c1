package status

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod/status"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// A pod that is removed while it is looked at is no pod.
func TestRemoved(t *testing.T) {
	p, lock, err := poddir.In(t.TempDir()).Create(poddir.NewUUID())
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	for name, text := range map[string]string{poddir.ManifestFile: `{"acKind":"PodManifest"}`, poddir.PIDFile: "1\n",
		poddir.StartedFile: ""} {
		if err := os.WriteFile(p.Path(name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	s, err := status.Read(p, nil)
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
	if err := write(process, p, s); !errors.Is(err, poddir.ErrNotFound) {
		t.Errorf("of a removed pod: %v", err)
	}
}
