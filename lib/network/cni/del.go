package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/netns"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/network/netfilter"
	"github.com/rkt-toolkit/rkt/lib/network/peers"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Del takes a pod's network away. It does what it can and returns all that went wrong; what could
// not be undone stays recorded, for another Del. A pod without a network is success.
func (a *Attacher) Del(ctx context.Context) error {
	p := a.pod
	lock, err := p.LockEnded(ctx, lockTimeout)
	if errors.Is(err, poddir.ErrNotFound) {
		return Forget(ctx, p.UUID)
	}
	if errors.Is(err, durable.ErrLocked) {
		return busy(p)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Lstat(a.netDir()); err == nil { // what is removed below is the pod's
		if err := p.CheckDirectory(poddir.NetDir); err != nil {
			return err
		}
	}
	return a.detach(ctx)
}

// detach undoes all that is recorded of a pod whose lock is held, and forgets what is undone; with
// Force, what is not too.
func (a *Attacher) detach(ctx context.Context) error {
	p := a.pod
	if err := os.RemoveAll(p.Path(newDir)); err != nil {
		return err
	}
	_, err := os.Lstat(a.netDir())
	lost := errors.Is(err, fs.ErrNotExist) && netns.Owner(p.UUID) != ""
	if err := remove(p.Path(poddir.NetnsFile)); err != nil {
		return err
	}
	if err := peers.Leave(p); err != nil { // before others get its addresses
		a.warn(fmt.Sprintf("pod %s: its names: %v", p.UUID, err))
	}
	if lost { // somebody has removed the record, but not the pod's directory
		if err := sweepPod(ctx, p.UUID); err != nil {
			return fmt.Errorf("pod %s: %w", p.UUID, err)
		}
		return nil
	}
	err = a.undo(ctx)
	if err != nil && (!a.Force || ctx.Err() != nil) {
		return fmt.Errorf("pod %s: %w (rkt-net del --force %.8[1]s gives it up)", p.UUID, err)
	}
	if err != nil {
		if err := sweepPod(ctx, p.UUID); err != nil {
			return fmt.Errorf("pod %s: %w", p.UUID, err)
		}
		a.Warn(fmt.Sprintf("pod %s: given up: %v; removed all the same: its namespace, host-local's addresses, rules "+
			"with its UUID", p.UUID, err))
	}
	return os.RemoveAll(a.netDir())
}

// undo has the plugins of all attachments undo what they did, and then removes the namespace.
func (a *Attacher) undo(ctx context.Context) error {
	attachments, err := network.Attachments(a.pod.Dir())
	if err != nil && !a.Force {
		return err
	}
	errs := []error{err}
	calls := a.plugins(a.netDir(), a.recordedDirs())
	for _, recorded := range slices.Backward(attachments) {
		errs = append(errs, calls.forget(ctx, recorded))
	}
	return oneLine(append(errs, netns.Release(a.pod.UUID), netfilter.Release(ctx)))
}

// recordedDirs are the directories of plugins as Add had them, then as they are now.
func (a *Attacher) recordedDirs() []string {
	dirs := a.PluginDirs
	if data, err := a.pod.ReadFile(filepath.Join(poddir.NetDir, network.PathFile)); err == nil {
		dirs = slices.Concat(strings.Split(strings.TrimSpace(string(data)), "\n"), dirs)
	}
	return unique(dirs)
}

// forget undoes one attachment and removes its record.
func (p *plugins) forget(ctx context.Context, recorded network.Attachment) error {
	dir := filepath.Join(p.netDir, recorded.Interface)
	a, err := newAttachment(recorded)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, network.ConfigFile), err)
	}
	if err := p.del(ctx, a); err != nil {
		return fmt.Errorf("network %s: %w; left: %s", a.list.Name, err, a.left())
	}
	if err := os.Remove(filepath.Join(dir, network.ConfigFile)); err != nil { // without it there is no attachment
		return err
	}
	return os.RemoveAll(dir)
}

// left says in words what an attachment that can't be undone may keep.
func (a *attachment) left() string {
	n, err := a.Network()
	if err != nil || len(n.IPs) == 0 {
		return "whatever its plugins had done"
	}
	var ips []string
	for _, ip := range n.IPs {
		ips = append(ips, ip.String())
	}
	return "address " + strings.Join(ips, ", ") + " and its rules"
}

// del calls the plugins of one network in reverse order, going on after a failure, and then removes
// what they are known to leave.
func (p *plugins) del(ctx context.Context, a *attachment) error {
	var previous types.Result
	if a.Result != nil && a.speaks("0.4.0") {
		previous, _ = a.lastResult() // DEL has to work without
	}
	before, err := netns.HasInterface(p.uuid, a.Interface)
	if err != nil {
		before = false
	}
	swept := !before || a.Result == nil
	var errs []error
	var types []string
	for _, plugin := range slices.Backward(a.list.Plugins) {
		types = append(types, plugin.Network.Type)
		again, err := p.delPlugin(ctx, plugin, a, previous)
		swept = swept || again
		if err != nil {
			errs = append(errs, fmt.Errorf("plugin %s: %w", plugin.Network.Type, err))
		}
	}
	if a.masquerades() || slices.Contains(types, flannel) { // which masquerades if flanneld does not
		m, _ := a.masquerade(p.uuid) // without a result it has no addresses, and needs none to remove rules
		if swept || missingProgram(m.backend) != nil {
			errs = append(errs, m.remove(ctx))
		}
	}
	if a.Result == nil {
		errs = append(errs, sweepReservations(a))
	}
	return oneLine(errs)
}

// delPlugin calls one plugin for DEL, and reports whether it took more than that. A plugin that has
// failed is called once more: ptp 1.1 and bridge 1.1 remove the interface and then stumble over
// rules that are not there, since an ADD was killed or somebody has flushed the tables; the second
// time there is no interface, and they are content. And DEL needs no arguments, which may be why
// ADD has failed.
func (p *plugins) delPlugin(ctx context.Context, plugin *libcni.PluginConfig, a *attachment,
	previous types.Result) (again bool, err error) {
	if a.byNFTables(plugin) { // without nft portmap leaves the rules, and is content
		if err := missingProgram(netfilter.NFTables); err != nil {
			return true, fmt.Errorf("removing its rules %w", err)
		}
	}
	if optionsOf(plugin).IPAM.Type == dhcp {
		return p.delDHCP(ctx, plugin, a, previous)
	}
	if _, err = p.call(ctx, "DEL", plugin, a, previous); err == nil || ctx.Err() != nil {
		return false, err
	}
	unargued := *a
	unargued.Args = ""
	_, err = p.call(ctx, "DEL", plugin, &unargued, previous)
	return true, err
}

// releaseTimeout is how long the dhcp plugin's daemon has to release a lease, which takes it one
// packet.
const releaseTimeout = 5 * time.Second

// delDHCP is delPlugin for a plugin with a lease of DHCP. The daemon may be gone, and the lease
// with it. Or it does not answer: that of 1.1 goes on to ask a server that is gone to renew the
// lease, for minutes, and then sees that it is to release it. Either way the plugin does the rest
// with an IPAM plugin that has nothing to release.
func (p *plugins) delDHCP(ctx context.Context, plugin *libcni.PluginConfig, a *attachment,
	previous types.Result) (again bool, err error) {
	limited, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	_, err = p.call(limited, "DEL", plugin, a, previous)
	if err == nil || ctx.Err() != nil {
		return false, err
	}
	if limited.Err() == nil && !optionsOf(plugin).daemonGone() {
		return false, err
	}
	if limited.Err() != nil && p.warn != nil {
		p.warn(fmt.Sprintf("network %s: the daemon of the dhcp plugin has not released the lease within %s; it may "+
			"do so later, or the lease expires",
			a.list.Name, releaseTimeout))
	}
	leaseless, err := libcni.InjectConf(plugin, map[string]any{"ipam": map[string]string{"type": "static"}})
	if err == nil {
		_, err = p.call(ctx, "DEL", leaseless, a, previous)
	}
	return true, err
}

// Forget takes away what is left of the network of a pod whose directory, and with it the record,
// somebody has removed: what carries the pod's UUID. That are the namespace, addresses in
// host-local's own directory, and rules of masquerading and of forwarded ports. A pod of another
// data directory is left alone; one that runs still is an error.
func Forget(ctx context.Context, uuid string) error {
	if data := netns.Owner(uuid); data != "" {
		if _, err := poddir.In(data).Find(uuid, ""); !errors.Is(err, poddir.ErrNotFound) {
			return nil
		}
	}
	if netns.Used(uuid) {
		return fmt.Errorf("pod %s: its directory is gone, but it runs still; end it with machinectl terminate "+
			"rkt-%[1]s, or the name that it was given", uuid)
	}
	if err := sweepPod(ctx, uuid); err != nil {
		return fmt.Errorf("pod %s: %w", uuid, err)
	}
	return nil
}
