// Package gc takes pods down: everything outside of a pod's directory that belongs to it, and then
// the directory.
package gc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/netns"
	"github.com/rkt-toolkit/rkt/lib/host/printable"
	"github.com/rkt-toolkit/rkt/lib/network/netfilter"
	"github.com/rkt-toolkit/rkt/lib/network/peers"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/volume"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
	"golang.org/x/sys/unix"
)

// Collector removes pods.
type Collector struct {
	Pods    poddir.Pods
	Flavors stage1.Flavors
	// ReleaseNetwork runs "rkt-net del --force" for a pod, which need not be there any more.
	ReleaseNetwork func(ctx context.Context, uuid string) error
	// Log is told of each decision.
	Log *slog.Logger
	// Report is called with each thing done, as a line for the user. Several calls may be made at
	// once.
	Report func(line string)
	// Warn is told of data that was removed along with a pod. Several calls may be made at once.
	Warn func(line string)
}

// workers is how many pods Collect works on at once: most of the time goes into waiting, for the
// disk and for plugins.
const workers = 8

// waitLimit is for another program that works on a pod, such as an rkt-net that waits for a plugin.
const waitLimit = 30 * time.Second

// Rules say how old what is to be removed must be.
type Rules struct {
	GracePeriod    time.Duration // since rkt-gc first saw an exited pod
	ExpirePrepared time.Duration // of a pod that was prepared and never run
	MarkOnly       bool          // only note which pods have exited
}

// ErrRunning says that a pod cannot be removed because it runs, or is being prepared.
var ErrRunning = errors.New("is currently running or being prepared; stop it first")

// errChanged says that a pod is not what the rules were applied to any more.
var errChanged = errors.New("another program has used it meanwhile")

// Remove removes one pod now. A pod that is gone is no error.
func (c *Collector) Remove(ctx context.Context, p *poddir.Pod) error {
	_, err := c.remove(ctx, p, func(poddir.State) bool { return true })
	return err
}

// remove is Remove for as long as the pod's state allows it, asked again under the lock: a prepared
// pod may have been run, and have ended, since the rules were applied to it.
func (c *Collector) remove(ctx context.Context, p *poddir.Pod, allowed func(poddir.State) bool) (freed int64,
	err error) {
	state, err := p.State()
	if errors.Is(err, poddir.ErrNotFound) {
		c.Log.Debug("gone already", "pod", p.UUID)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if !state.May(poddir.Deleting) || state == poddir.Preparing {
		// A killed pod's lock lives as long as the last of its first process; in ExecStopPost= that
		// is an instant.
		if state, err = settle(p); errors.Is(err, poddir.ErrNotFound) {
			return 0, nil
		} else if err != nil {
			return 0, err
		} else if state.Lives() {
			return 0, fmt.Errorf("pod %q %w", p.UUID, ErrRunning)
		}
	}
	if err := c.releaseNetwork(ctx, p); err != nil {
		return 0, err
	}
	lock, err := p.LockEnded(ctx, waitLimit)
	switch {
	case errors.Is(err, poddir.ErrNotFound):
		c.Log.Debug("another program has removed it", "pod", p.UUID)
		return 0, nil
	case errors.Is(err, durable.ErrLocked):
		return 0, fmt.Errorf("pod %q %w", p.UUID, ErrRunning)
	case err != nil:
		return 0, err
	}
	defer lock.Close()
	if !allowed(p.StateHeld()) {
		return 0, fmt.Errorf("pod %s: %w", p.UUID, errChanged)
	}
	if _, err := os.Lstat(p.Path(poddir.NetDir)); err == nil { // a network was added in between
		return 0, fmt.Errorf("pod %s: another program gives it a network", p.UUID)
	}
	if err := c.release(ctx, p); err != nil {
		return 0, err
	}
	lost := data(p)
	if freed, err = p.Delete(); err != nil {
		return freed, err
	}
	if lost != "" && state.Ended() {
		c.Warn(fmt.Sprintf("pod %s: removed with the data of its volumes: %s", p.UUID, lost))
	}
	c.Log.Debug("removed", "pod", p.UUID, "state", state, "bytes", freed)
	return freed, nil
}

// release removes what a pod, whose lock is held, has left outside of its directory.
func (c *Collector) release(ctx context.Context, p *poddir.Pod) error {
	if p.StateHeld().Ended() {
		if err := running.KillRemains(p, c.Log); err != nil {
			return err
		}
	}
	flavor, err := c.Flavors.Of(p)
	if err != nil {
		return err
	}
	if err := flavor.Release(ctx, p, c.Log); err != nil {
		return err
	}
	err = os.Remove(filepath.Join(poddir.Registrations, p.UUID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// settle waits for a moment for a pod that is just ending.
func settle(p *poddir.Pod) (state poddir.State, err error) {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if state, err = p.State(); err != nil || !state.Lives() {
			break
		}
	}
	return state, err
}

// releaseNetwork has rkt-net undo what it did for a pod, if it did anything.
func (c *Collector) releaseNetwork(ctx context.Context, p *poddir.Pod) error {
	_, err := os.Lstat(p.Path(poddir.NetDir))
	_, errPin := os.Lstat(netns.Path(p.UUID))
	if errors.Is(err, fs.ErrNotExist) && errors.Is(errPin, fs.ErrNotExist) {
		return nil
	}
	c.Log.Debug("releases its network", "pod", p.UUID)
	if err := c.ReleaseNetwork(ctx, p.UUID); err != nil {
		return fmt.Errorf("pod %s: kept, since its network could not be released: %w", p.UUID, err)
	}
	return nil
}

// Collect removes every pod that the rules allow to be removed, and what killed programs left. It
// goes on after a failure.
func (c *Collector) Collect(ctx context.Context, r Rules) error {
	pods, err := c.Pods.All()
	if err != nil {
		return err
	}
	errs := make([]error, len(pods))
	slots := make(chan struct{}, workers)
	var all sync.WaitGroup
	for i, p := range pods {
		slots <- struct{}{}
		if errs[i] = ctx.Err(); errs[i] != nil {
			break
		}
		all.Go(func() {
			errs[i] = c.collect(ctx, p, r)
			<-slots
		})
	}
	all.Wait()
	if err := peers.Update(c.Pods); err != nil { // of pods that have exited, and after a kill
		errs = append(errs, fmt.Errorf("names of pods: %w", err))
	}
	if r.MarkOnly || ctx.Err() != nil {
		return errors.Join(errs...)
	}
	errs = append(errs, c.collectOrphans(ctx), c.Pods.Sweep(), volume.In(filepath.Dir(c.Pods.Path())).Sweep(),
		c.sweepFlavors(ctx), netfilter.Release(ctx))
	return errors.Join(errs...)
}

// collectOrphans removes what is outside of the directories of pods whose directory somebody has
// removed.
func (c *Collector) collectOrphans(ctx context.Context) error {
	pinned, err := netns.UUIDs()
	errs := []error{err}
	for _, uuid := range pinned {
		if !poddir.ValidUUID(uuid) || !c.Pods.Gone(uuid) || elsewhere(uuid) {
			continue
		}
		if netns.Used(uuid) {
			c.Log.Debug("kept: the directory of the pod is gone, but it runs", "pod", uuid)
			continue
		}
		c.Log.Debug("releases the network of a pod that is gone", "pod", uuid)
		errs = append(errs, c.ReleaseNetwork(ctx, uuid))
	}
	return errors.Join(errs...)
}

// sweepFlavors removes what pods of all flavors have left that are gone.
func (c *Collector) sweepFlavors(ctx context.Context) error {
	var errs []error
	for _, flavor := range c.Flavors {
		errs = append(errs, flavor.Sweep(ctx, c.Pods, c.Log))
	}
	return errors.Join(errs...)
}

// elsewhere reports whether a pod that has a network namespace is one of another data directory.
func elsewhere(uuid string) bool {
	data := netns.Owner(uuid)
	if data == "" {
		return false
	}
	_, err := os.Lstat(filepath.Join(poddir.In(data).Path(), uuid))
	return err == nil
}

// collect applies the rules to one pod.
func (c *Collector) collect(ctx context.Context, p *poddir.Pod, r Rules) error {
	state, err := p.State()
	if errors.Is(err, poddir.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if due, err := c.due(p, state, r); err != nil || !due {
		return err
	}
	if state == poddir.Exited { // it was marked above
		state = poddir.ExitedGarbage
	}
	freed, err := c.remove(ctx, p, func(now poddir.State) bool { return now == state })
	if err != nil {
		if errors.Is(err, ErrRunning) || errors.Is(err, errChanged) {
			c.Log.Debug("kept: used meanwhile", "pod", p.UUID, "cause", err)
			return nil
		}
		return err
	}
	c.Report(fmt.Sprintf("Garbage collecting pod %q (%s)", p.UUID, printable.Size(freed)))
	return nil
}

// due reports whether the rules say that a pod is to be removed now. It marks one that has exited.
func (c *Collector) due(p *poddir.Pod, state poddir.State, r Rules) (bool, error) {
	switch state {
	case poddir.AbortedPrepare:
		if r.MarkOnly {
			return false, nil
		}
	case poddir.Prepared:
		if r.MarkOnly {
			return false, nil
		}
		age, err := c.age(p, poddir.ManifestFile)
		if err != nil {
			return false, err
		}
		if age < r.ExpirePrepared {
			c.Log.Debug("kept: prepared, and may be run yet", "pod", p.UUID, "age", age.Round(time.Second), "expires",
				r.ExpirePrepared)
			return false, nil
		}
	case poddir.Exited:
		if err := mark(p); err != nil {
			return false, err
		}
		if r.MarkOnly || r.GracePeriod > 0 {
			c.Report(fmt.Sprintf("Moving pod %q to garbage", p.UUID))
			return false, nil
		}
	case poddir.ExitedGarbage:
		if r.MarkOnly {
			return false, nil
		}
		age, err := c.age(p, poddir.GarbageFile)
		if err != nil {
			return false, err
		}
		if age < r.GracePeriod {
			c.Report(fmt.Sprintf("Pod %q not removed: still within grace period (%s)", p.UUID, r.GracePeriod))
			return false, nil
		}
	default:
		c.Log.Debug("kept: in use", "pod", p.UUID, "state", state)
		return false, nil
	}
	return true, nil
}

// age is how old one of the pod's files is. One of the future, of a clock that has been set back
// since, gets the time that it is now: so no pod is kept for longer than its period from the first
// look at it, and none for a shorter one.
func (c *Collector) age(p *poddir.Pod, name string) (time.Duration, error) {
	age := time.Since(p.Time(name))
	if age >= 0 {
		return age, nil
	}
	c.Log.Debug("of the future: its time is now set to the present", "pod", p.UUID, "file", name, "ahead", -age)
	err := unix.UtimesNanoAt(unix.AT_FDCWD, p.Path(name), []unix.Timespec{{Nsec: unix.UTIME_NOW},
		{Nsec: unix.UTIME_NOW}}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && err != unix.ENOENT {
		return 0, fmt.Errorf("%s: %w", p.Path(name), err)
	}
	return 0, nil
}

// mark notes that an exited pod was seen, which starts its grace period.
func mark(p *poddir.Pod) error {
	f, err := os.OpenFile(p.Path(poddir.GarbageFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}
