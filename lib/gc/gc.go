// Package gc takes pods down: everything outside of a pod's directory that belongs to it, and then the directory.
package gc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cgroup"
	"github.com/rkt-toolkit/rkt/lib/durable"
	"github.com/rkt-toolkit/rkt/lib/netns"
	"github.com/rkt-toolkit/rkt/lib/pod"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// Collector removes pods.
type Collector struct {
	Pods pod.Pods
	// ReleaseNetwork runs "rkt-net del" for a pod, which need not be there any more.
	ReleaseNetwork func(ctx context.Context, uuid string) error
	// Report is called with each thing done, as a line for the user.
	Report func(line string)
}

// Rules say how old what is to be removed must be.
type Rules struct {
	GracePeriod    time.Duration // since rkt-gc first saw an exited pod
	ExpirePrepared time.Duration // of a pod that was prepared and never run
	MarkOnly       bool          // only note which pods have exited
}

// ErrRunning says that a pod cannot be removed because it runs, or is being prepared.
var ErrRunning = errors.New("is running or being prepared; stop it first")

// errChanged says that a pod is not what the rules were applied to any more.
var errChanged = errors.New("another program has used it meanwhile")

// Remove removes one pod now. A pod that is gone is no error.
func (c *Collector) Remove(ctx context.Context, p *pod.Pod) error {
	return c.remove(ctx, p, func(pod.State) bool { return true })
}

// remove is Remove for as long as the pod's state allows it, asked again under the lock: a prepared pod may have been run, and have ended,
// since the rules were applied to it.
func (c *Collector) remove(ctx context.Context, p *pod.Pod, allowed func(pod.State) bool) error {
	state, err := p.State()
	if errors.Is(err, pod.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if state == pod.Running || state == pod.Preparing {
		// A killed pod's lock lives as long as the last of its systemd-nspawn; in ExecStopPost= that is an instant.
		if state, err = settle(p); errors.Is(err, pod.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		} else if state == pod.Running || state == pod.Preparing {
			return fmt.Errorf("pod %s: %w", p.UUID, ErrRunning)
		}
	}
	if err := c.releaseNetwork(ctx, p); err != nil {
		return err
	}
	lock, err := p.Lock()
	switch {
	case errors.Is(err, pod.ErrNotFound): // another program was faster
		return nil
	case errors.Is(err, durable.ErrLocked):
		return fmt.Errorf("pod %s: %w", p.UUID, ErrRunning)
	case err != nil:
		return err
	}
	defer lock.Close()
	if !allowed(p.StateHeld()) {
		return fmt.Errorf("pod %s: %w", p.UUID, errChanged)
	}
	if _, err := os.Lstat(p.Path(pod.NetDir)); err == nil { // a network was added in between
		return fmt.Errorf("pod %s: another program gives it a network", p.UUID)
	}
	if err := c.unregister(ctx, p); err != nil {
		return err
	}
	if err := removeGroups(p); err != nil {
		return err
	}
	if err := removeJournalLink(p); err != nil {
		return err
	}
	return p.Delete()
}

// settle waits for a moment for a pod that is just ending.
func settle(p *pod.Pod) (state pod.State, err error) {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if state, err = p.State(); err != nil || state != pod.Running && state != pod.Preparing {
			break
		}
	}
	return state, err
}

// releaseNetwork has rkt-net undo what it did for a pod, if it did anything.
func (c *Collector) releaseNetwork(ctx context.Context, p *pod.Pod) error {
	_, err := os.Lstat(p.Path(pod.NetDir))
	_, errPin := os.Lstat(netns.Path(p.UUID))
	if errors.Is(err, fs.ErrNotExist) && errors.Is(errPin, fs.ErrNotExist) {
		return nil
	}
	if err := c.ReleaseNetwork(ctx, p.UUID); err != nil {
		return fmt.Errorf("pod %s: kept, since its network could not be released: %w", p.UUID, err)
	}
	return nil
}

// unregister has systemd-machined forget a pod whose systemd-nspawn was killed before it could do so; machined itself would only when
// the unit ends, and with Restart= that is not now.
func (c *Collector) unregister(ctx context.Context, p *pod.Pod) error {
	name := stage1.MachineName(p.UUID)
	if _, err := os.Lstat("/run/systemd/machines/" + name); err != nil { // machined's own note, which journalctl -M reads too
		return nil
	}
	const machined = "org.freedesktop.machine1"
	out, err := exec.CommandContext(ctx, "busctl", "--quiet", "call", machined, "/org/freedesktop/machine1", machined+".Manager",
		"UnregisterMachine", "s", name).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "No machine") {
		return fmt.Errorf("pod %s: systemd-machined: %s (%w)", p.UUID, strings.TrimSpace(string(out)), err)
	}
	return nil
}

// removeGroups removes the control groups that rkt-run-prepared made for the pod.
func removeGroups(p *pod.Pod) error {
	note, err := os.ReadFile(p.Path(pod.CgroupFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for dir := range strings.FieldsSeq(string(note)) {
		if filepath.Base(dir) == stage1.MachineName(p.UUID) { // nothing but the pod's
			errs = append(errs, cgroup.Remove(dir, time.Second))
		}
	}
	return errors.Join(errs...)
}

// journals is where systemd-nspawn --link-journal=try-guest leaves a link for each pod (systemd-nspawn(1)) that it never removes.
const journals = "/var/log/journal"

func removeJournalLink(p *pod.Pod) error {
	link := filepath.Join(journals, strings.ReplaceAll(p.UUID, "-", ""))
	target, err := os.Readlink(link)
	if err != nil || !strings.HasPrefix(target, p.Dir()+"/") {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Collect removes every pod that the rules allow to be removed, and what killed programs left. It goes on after a failure.
func (c *Collector) Collect(ctx context.Context, r Rules) error {
	pods, err := c.Pods.All()
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range pods {
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
		errs = append(errs, c.collect(ctx, p, r))
	}
	if r.MarkOnly {
		return errors.Join(errs...)
	}
	pins, err := os.ReadDir(netns.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, pin := range pins { // of pods whose directory somebody removed
		if _, err := c.Pods.Find(pin.Name(), ""); pod.ValidUUID(pin.Name()) && errors.Is(err, pod.ErrNotFound) {
			errs = append(errs, c.ReleaseNetwork(ctx, pin.Name()))
		}
	}
	return errors.Join(append(errs, c.Pods.Sweep())...)
}

// collect applies the rules to one pod.
func (c *Collector) collect(ctx context.Context, p *pod.Pod, r Rules) error {
	state, err := p.State()
	if errors.Is(err, pod.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	switch state {
	case pod.AbortedPrepare:
		if r.MarkOnly {
			return nil
		}
	case pod.Prepared:
		if r.MarkOnly || time.Since(p.Time(pod.ManifestFile)) < r.ExpirePrepared {
			return nil
		}
	case pod.Exited:
		if err := mark(p); err != nil {
			return err
		}
		if r.MarkOnly {
			c.Report(fmt.Sprintf("Moving pod %q to garbage", p.UUID))
			return nil
		}
		if r.GracePeriod > 0 {
			c.Report(fmt.Sprintf("Moving pod %q to garbage", p.UUID))
			return nil
		}
	case pod.ExitedGarbage:
		if r.MarkOnly {
			return nil
		}
		if age := time.Since(p.Time(pod.GarbageFile)); age >= 0 && age < r.GracePeriod { // a clock that was set back counts as old
			c.Report(fmt.Sprintf("Pod %q not removed: still within grace period (%s)", p.UUID, r.GracePeriod))
			return nil
		}
	default:
		return nil
	}
	if state == pod.Exited { // it was marked above
		state = pod.ExitedGarbage
	}
	if err := c.remove(ctx, p, func(now pod.State) bool { return now == state }); err != nil {
		if errors.Is(err, ErrRunning) || errors.Is(err, errChanged) {
			return nil // it was started meanwhile
		}
		return err
	}
	c.Report(fmt.Sprintf("Garbage collecting pod %q", p.UUID))
	return nil
}

// mark notes that an exited pod was seen, which starts its grace period.
func mark(p *pod.Pod) error {
	f, err := os.OpenFile(p.Path(pod.GarbageFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}
