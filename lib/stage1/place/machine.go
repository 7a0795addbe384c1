package place

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/machined"
)

// NameMachine has the pod be known to systemd-machined by the name that it was given, if that can
// be a machine's and is free, and notes that; else it returns "". The name of a pod is free of
// other pods of the same data directory only.
func NameMachine(p *poddir.Pod) (string, error) {
	err := os.Remove(p.Path(poddir.MachineFile)) // of a start that failed
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	name := p.Name()
	unit, err := p.ReadFile(poddir.UnitFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if !machined.ValidName(name) || strings.HasPrefix(string(unit), name+" ") { // the latter is no name that was given
		return "", nil
	}
	free, err := machined.Claim(context.Background(), name)
	if err != nil || !free {
		return "", err
	}
	return name, durable.WriteFile(p.Path(poddir.MachineFile), []byte(name+"\n"), 0o600)
}

// ReleaseMachine has the machine forgotten of a pod that was one under a name.
func ReleaseMachine(ctx context.Context, p *poddir.Pod) error {
	text, err := p.ReadFile(poddir.MachineFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	name := strings.TrimSuffix(string(text), "\n")
	if !machined.ValidName(name) {
		return fmt.Errorf("%s: %q: not the name of a machine", p.Path(poddir.MachineFile), name)
	}
	return machined.Release(ctx, name)
}
