package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/inotify"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/machined"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/systree"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
)

// Release has systemd-machined and systemd forget the machine, which systemd-nspawn could not do if
// it was killed, and systemd-machined itself would when the unit ends: with Restart= not now. And
// it removes cgroups, the link to the journal, and a promise.
func (Flavor) Release(ctx context.Context, p *poddir.Pod, _ *slog.Logger) error {
	if err := machined.Unregister(ctx, stage1.PodName(p.UUID)); err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if err := machined.StopScope(ctx, stage1.PodName(p.UUID)); err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if err := place.ReleaseMachine(ctx, p); err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if err := place.RemoveGroups(p); err != nil {
		return err
	}
	if err := removeJournalLink(p.Pods(), p.UUID); err != nil {
		return err
	}
	return inotify.Forget(p.UUID)
}

// Sweep removes links to journals of pods that are gone, and the copies of what the host's systemd
// was on which no pod lies any more.
func (Flavor) Sweep(_ context.Context, pods poddir.Pods, log *slog.Logger) error {
	var errs []error
	links, err := os.ReadDir(hostJournals)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, link := range links {
		uuid := linked(pods, filepath.Join(hostJournals, link.Name()))
		if uuid == "" || !pods.Gone(uuid) {
			continue
		}
		log.Debug("removes the link to the journal of a pod that is gone", "pod", uuid)
		errs = append(errs, removeJournalLink(pods, uuid))
	}
	removed, err := systree.In(pods.DataDir()).Sweep(pods.Systemd)
	for _, name := range removed {
		log.Debug("removes a copy of the host's systemd", "copy", name)
	}
	return errors.Join(append(errs, err)...)
}

// removeJournalLink removes the link by which the host's journalctl finds the journal of a pod.
func removeJournalLink(pods poddir.Pods, uuid string) error {
	link := filepath.Join(hostJournals, machineID(uuid))
	if linked(pods, link) != uuid {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// linked is the pod of the data directory to whose journal a link leads, or "".
func linked(pods poddir.Pods, path string) string {
	target, err := os.Readlink(path)
	below, ok := strings.CutPrefix(target, pods.Path()+"/")
	uuid, _, _ := strings.Cut(below, "/")
	if err != nil || !ok || !poddir.ValidUUID(uuid) || filepath.Base(path) != machineID(uuid) {
		return ""
	}
	return uuid
}
