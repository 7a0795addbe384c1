// Package cni attaches pods to networks by CNI plugins and detaches them. What is intended is written to the pod's net/ before
// the first plugin is called, so that whatever a plugin did can be undone from the files alone.
package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/netns"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/network/netfilter"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
)

// Options say where configuration and plugins are.
type Options struct {
	ConfigDirs []string     // net.d folders, the first wins
	PluginDirs []string     // the first that has a plugin wins
	Stderr     io.Writer    // what plugins write there; may be nil
	Called     func(Call)   // told of each call of a plugin; may be nil
	Force      bool         // Del forgets what can't be undone
	Warn       func(string) // told of what Del forgets, and of keys that nobody here knows
	Names      network.Names
}

func (o Options) plugins(uuid, netDir string, dirs []string) *plugins {
	return &plugins{uuid: uuid, netDir: netDir, dirs: dirs, stderr: o.Stderr, called: o.Called, warn: o.Warn, ready: func() error { return nil }}
}

// newDir is net/ in the making.
const newDir = network.Dir + ".new"

// Add gives a prepared pod its network and returns the CNI results, one per network. What an earlier Add that was killed has
// left is taken back first. When Add fails it takes back what it did.
func Add(ctx context.Context, p *poddir.Pod, selection network.Selection, o Options) ([]json.RawMessage, error) {
	lock, err := p.Lock()
	if errors.Is(err, durable.ErrLocked) {
		return nil, busy(p)
	}
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if state := p.StateHeld(); state != poddir.Prepared {
		return nil, fmt.Errorf("pod %q is not prepared: it is %s, and only a prepared pod can be given a network", p.UUID, state)
	}
	whole, err := attached(p)
	if err != nil {
		return nil, err
	}
	if whole {
		return nil, fmt.Errorf("pod %s: has its network already (rkt-net del takes it away)", p.UUID)
	}
	attachments, err := o.intend(ctx, p, selection)
	if err != nil {
		return nil, err
	}
	ready, err := o.begin(ctx, p, selection, attachments)
	if err != nil {
		return nil, err
	}
	results, err := o.attach(ctx, p, selection, attachments, ready)
	if err != nil {
		if why := ready(); why != nil { // and so no plugin has done anything
			err = why
		}
		return nil, o.takeBack(ctx, p, err)
	}
	return results, nil
}

// begin writes down what is intended, when all that can be known beforehand says that it can be done, and makes the pod's namespace. That goes
// on when it returns, and no plugin may act before ready returns nil: then there is a namespace, and a record that outlasts a loss of power.
func (o Options) begin(ctx context.Context, p *poddir.Pod, selection network.Selection, attachments []*attachment) (ready func() error, err error) {
	for _, a := range attachments {
		if len(a.Ports) > 0 {
			lock, err := o.reserve(ctx, p, a.Ports)
			if err != nil {
				return nil, err
			}
			defer lock.Close()
		}
	}
	if err := o.detach(ctx, p); err != nil {
		return nil, fmt.Errorf("taking back what an earlier rkt-net add left: %w", err)
	}
	if err := record(p, o.PluginDirs, attachments); err != nil {
		return nil, o.takeBack(ctx, p, err)
	}
	done := make(chan error, 2)
	go func() { done <- durable.SyncTree(p.Path(poddir.NetDir), p.Dir()) }()
	go func() {
		var err error
		if !selection.Host() {
			err = netns.Create(p.UUID, p.DataDir())
		}
		done <- err
	}()
	return sync.OnceValue(func() error { return errors.Join(<-done, <-done) }), nil
}

// takeBack undoes what an Add has done that failed, and returns its error.
func (o Options) takeBack(ctx context.Context, p *poddir.Pod, err error) error {
	if undo := o.detach(context.WithoutCancel(ctx), p); undo != nil {
		return fmt.Errorf("%w; taking it back: %w", err, undo)
	}
	return err
}

// busy is the error for a pod whose lock somebody else holds.
func busy(p *poddir.Pod) error {
	state, err := p.State()
	if err != nil {
		return err
	}
	switch {
	case state == poddir.Running && !p.Ended():
		return fmt.Errorf("pod %s: is running; stop it first", p.UUID)
	case state == poddir.Preparing:
		return fmt.Errorf("pod %s: is still being prepared", p.UUID)
	}
	return fmt.Errorf("pod %s: another program works on it", p.UUID)
}

// attached tells whether the pod has a network that is whole, so far as can be told without its plugins.
func attached(p *poddir.Pod) (bool, error) {
	where, err := network.Namespace(p.Dir())
	return where == network.Host || where != "" && netns.Pinned(p.UUID), err
}

// intend finds all that is needed to attach the pod, and changes nothing.
func (o Options) intend(ctx context.Context, p *poddir.Pod, selection network.Selection) ([]*attachment, error) {
	ports, err := podPorts(p) // without those that are socket activated, which need no network
	if err != nil {
		return nil, err
	}
	for name, is := range map[string]bool{network.Host: selection.Host(), network.None: selection.None()} {
		if is && len(ports) > 0 { // in rkt's words, for scripts
			return nil, fmt.Errorf("port %s: --port flag does not work with '%s' networking", ports[0], name)
		}
		if is {
			return nil, nil
		}
	}
	configs, err := network.Load(o.ConfigDirs...)
	if err != nil {
		return nil, err
	}
	choices, err := selection.Resolve(configs)
	if err != nil {
		return nil, err
	}
	calls := o.plugins(p.UUID, "", o.PluginDirs)
	var attachments []*attachment
	for i, choice := range choices {
		a, err := newAttachment(network.Attachment{Interface: network.Interface(i), Config: choice.List, Args: choice.Args})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", choice.Label(), err)
		}
		a.label = choice.Label()
		if err := a.misspelt(o.Warn); err != nil {
			return nil, fmt.Errorf("%s: %w", a.label, err)
		}
		attachments = append(attachments, a)
	}
	if err := forward(attachments, ports); err != nil {
		return nil, err
	}
	if err := overlap(attachments); err != nil {
		return nil, err
	}
	for _, a := range attachments {
		err := calls.settleVersion(ctx, a)
		if err == nil {
			err = calls.lacks(a)
		}
		if err == nil {
			err = calls.settleBackends(ctx, a)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.label, err)
		}
	}
	return attachments, nil
}

// lacks tells what an attachment lacks, before anything is changed.
func (p *plugins) lacks(a *attachment) error {
	for _, program := range a.programs() {
		if _, err := p.FindInPath(program, p.dirs); err != nil {
			return fmt.Errorf("plugin %s: %w", program, err)
		}
	}
	for _, plugin := range a.list.Plugins {
		if err := optionsOf(plugin).daemon(); err != nil {
			return err
		}
		if err := lacksFirewall(plugin); err != nil {
			return err
		}
	}
	return nil
}

// attach does what is noted, and writes net/netns last.
func (o Options) attach(ctx context.Context, p *poddir.Pod, selection network.Selection, attachments []*attachment, ready func() error) ([]json.RawMessage, error) {
	where, write := netns.Path(p.UUID), durable.WriteForNow
	if selection.Host() { // which a reboot does not take
		where, write = network.Host, durable.WriteFile
	}
	calls := o.plugins(p.UUID, p.Path(poddir.NetDir), o.PluginDirs)
	calls.ready = ready
	results := []json.RawMessage{}
	for _, a := range attachments {
		err := calls.add(ctx, p, a)
		if err != nil && ctx.Err() == nil && o.reclaim(ctx, p, a) && calls.del(ctx, a) == nil { // the address that it wants, or all, were a dead pod's
			a.result, a.Result = nil, nil
			err = calls.add(ctx, p, a)
		}
		if err == nil {
			err = a.asExpected()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.label, err)
		}
		results = append(results, a.Result)
	}
	if err := ready(); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if err := o.writeNames(p, attachments, selection.Host()); err != nil {
		return nil, err
	}
	return results, write(p.Path(poddir.NetnsFile), []byte(where+"\n"), 0o644)
}

// asExpected tells whether plugins that were content have done what was asked of them.
func (a *attachment) asExpected() error {
	n, err := a.Network()
	if err != nil {
		return err
	}
	if len(a.Ports) > 0 && len(n.IPs) == 0 {
		return errors.New("gives the pod no address to forward ports to")
	}
	for arg := range strings.SplitSeq(a.Args, ";") {
		address, ok := strings.CutPrefix(arg, "IP=")
		if !ok {
			continue
		}
		if prefix, err := netip.ParsePrefix(address); err == nil {
			given, err := a.prefixes()
			if err == nil && !slices.Contains(given, prefix) {
				return fmt.Errorf("its plugins do not heed %s, they gave %v", arg, given)
			}
		} else if ip, err := netip.ParseAddr(address); err == nil && !slices.Contains(n.IPs, ip) {
			return fmt.Errorf("its plugins do not heed %s, they gave %v", arg, n.IPs)
		}
	}
	return nil
}

// writeNames writes the files by which apps find names. They need not last longer than the namespace, which no reboot survives; a
// pod in the host's network has none.
func (o Options) writeNames(p *poddir.Pod, attachments []*attachment, host bool) error {
	var results [][]byte
	for _, a := range attachments {
		results = append(results, a.Result)
	}
	files, err := o.Names.Files(results, host)
	if err != nil {
		return err
	}
	write := os.WriteFile
	if host {
		write = durable.WriteFile
	}
	for name, text := range files {
		if err := write(filepath.Join(p.Path(poddir.NetDir), name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// record makes the pod's net/ in one rename. It is not on the disk yet.
func record(p *poddir.Pod, pluginDirs []string, attachments []*attachment) error {
	tmp := p.Path(newDir)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	files := map[string]string{network.PathFile: strings.Join(pluginDirs, "\n") + "\n"}
	for _, a := range attachments {
		if err := os.Mkdir(filepath.Join(tmp, a.Interface), 0o755); err != nil {
			return err
		}
		files[filepath.Join(a.Interface, network.ConfigFile)] = string(a.Config)
		if a.Args != "" {
			files[filepath.Join(a.Interface, network.ArgsFile)] = a.Args + "\n"
		}
		if len(a.Ports) > 0 {
			text, err := json.Marshal(a.Ports)
			if err != nil {
				return err
			}
			files[filepath.Join(a.Interface, network.PortsFile)] = string(text) + "\n"
		}
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(tmp, name), []byte(data), 0o644); err != nil {
			return err
		}
	}
	return os.Rename(tmp, p.Path(poddir.NetDir))
}

// add calls the plugins of one network in order, and keeps the result of each.
func (p *plugins) add(ctx context.Context, to *poddir.Pod, a *attachment) error {
	for _, plugin := range a.list.Plugins {
		result, err := p.call(ctx, "ADD", plugin, a, a.result)
		if err != nil {
			return fmt.Errorf("plugin %s: %w", plugin.Network.Type, err)
		}
		a.result = result
		if a.Result, err = json.Marshal(result); err != nil {
			return fmt.Errorf("plugin %s: %w", plugin.Network.Type, err)
		}
		file := filepath.Join(to.Path(poddir.NetDir), a.Interface, network.ResultFile)
		if err := durable.WriteForNow(file, append(a.Result, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Del takes a pod's network away. It does what it can and returns all that went wrong; what could not be undone stays
// recorded, for another Del. A pod without a network is success.
func Del(ctx context.Context, p *poddir.Pod, o Options) error {
	lock, err := running.LockEnded(ctx, p, lockPatience)
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
	if _, err := os.Lstat(p.Path(poddir.NetDir)); err == nil { // what is removed below is the pod's
		if err := p.CheckFolder(poddir.NetDir); err != nil {
			return err
		}
	}
	return o.detach(ctx, p)
}

// detach undoes all that is recorded of a pod whose lock is held, and forgets what is undone; with Force, what is not too.
func (o Options) detach(ctx context.Context, p *poddir.Pod) error {
	if err := os.RemoveAll(p.Path(newDir)); err != nil {
		return err
	}
	_, err := os.Lstat(p.Path(poddir.NetDir))
	lost := errors.Is(err, fs.ErrNotExist) && netns.Owner(p.UUID) != ""
	if err := remove(p.Path(poddir.NetnsFile)); err != nil {
		return err
	}
	if lost { // somebody has removed the record, but not the pod's directory
		if err := sweepPod(ctx, p.UUID); err != nil {
			return fmt.Errorf("pod %s: %w", p.UUID, err)
		}
		return nil
	}
	err = o.undo(ctx, p)
	if err != nil && (!o.Force || ctx.Err() != nil) {
		return fmt.Errorf("pod %s: %w (rkt-net del --force %.8[1]s gives it up)", p.UUID, err)
	}
	if err != nil {
		if err := sweepPod(ctx, p.UUID); err != nil {
			return fmt.Errorf("pod %s: %w", p.UUID, err)
		}
		o.Warn(fmt.Sprintf("pod %s: given up: %v; removed all the same: its namespace, host-local's addresses, rules with its UUID", p.UUID, err))
	}
	return os.RemoveAll(p.Path(poddir.NetDir))
}

// undo has the plugins of all attachments undo what they did, and then removes the namespace.
func (o Options) undo(ctx context.Context, p *poddir.Pod) error {
	attachments, err := network.Attachments(p.Dir())
	if err != nil && !o.Force {
		return err
	}
	errs := []error{err}
	calls := o.plugins(p.UUID, p.Path(poddir.NetDir), o.recordedDirs(p))
	for _, recorded := range slices.Backward(attachments) {
		errs = append(errs, calls.forget(ctx, p, recorded))
	}
	return oneLine(append(errs, netns.Release(p.UUID), netfilter.Release(ctx)))
}

// recordedDirs are the directories of plugins as Add had them, then as they are now.
func (o Options) recordedDirs(p *poddir.Pod) []string {
	dirs := o.PluginDirs
	if data, err := p.ReadFile(filepath.Join(poddir.NetDir, network.PathFile)); err == nil {
		dirs = slices.Concat(strings.Split(strings.TrimSpace(string(data)), "\n"), dirs)
	}
	return unique(dirs)
}

// oneLine is errors.Join with semicolons.
func oneLine(errs []error) error {
	var joined error
	for _, err := range errs {
		switch {
		case joined == nil:
			joined = err
		case err != nil:
			joined = fmt.Errorf("%w; %w", joined, err)
		}
	}
	return joined
}

func unique(list []string) []string {
	var once []string
	for _, s := range list {
		if !slices.Contains(once, s) {
			once = append(once, s)
		}
	}
	return once
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// forget undoes one attachment and removes its record.
func (p *plugins) forget(ctx context.Context, from *poddir.Pod, recorded network.Attachment) error {
	dir := filepath.Join(from.Path(poddir.NetDir), recorded.Interface)
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

// del calls the plugins of one network in reverse order, going on after a failure, and then removes what they are known to
// leave.
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
		if swept || lacksProgram(m.backend) != nil {
			errs = append(errs, m.remove(ctx))
		}
	}
	if a.Result == nil {
		errs = append(errs, sweepReservations(a))
	}
	errs = append(errs, sweepShared(ctx, types...))
	return oneLine(errs)
}

// delPlugin calls one plugin for DEL, and reports whether it took more than that. A plugin that has failed is called once more:
// ptp 1.1 and bridge 1.1 remove the interface and then stumble over rules that are not there, since an ADD was killed or somebody
// has flushed the tables; the second time there is no interface, and they are content. And DEL needs no arguments, which may be
// why ADD has failed.
func (p *plugins) delPlugin(ctx context.Context, plugin *libcni.PluginConfig, a *attachment, previous types.Result) (again bool, err error) {
	if a.byNFTables(plugin) { // without nft portmap leaves the rules, and is content
		if err := lacksProgram(netfilter.NFTables); err != nil {
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

// releasePatience is how long the dhcp plugin's daemon has to release a lease, which takes it one
// packet.
const releasePatience = 5 * time.Second

// delDHCP is delPlugin for a plugin with a lease of DHCP. The daemon may be gone, and the lease with
// it. Or it does not answer: that of 1.1 goes on to ask a server that is gone to renew the lease,
// for minutes, and then sees that it is to release it. Either way the plugin does the rest with an
// IPAM plugin that has nothing to release.
func (p *plugins) delDHCP(ctx context.Context, plugin *libcni.PluginConfig, a *attachment, previous types.Result) (again bool, err error) {
	limited, cancel := context.WithTimeout(ctx, releasePatience)
	defer cancel()
	_, err = p.call(limited, "DEL", plugin, a, previous)
	if err == nil || ctx.Err() != nil {
		return false, err
	}
	if limited.Err() == nil && !optionsOf(plugin).daemonGone() {
		return false, err
	}
	if limited.Err() != nil && p.warn != nil {
		p.warn(fmt.Sprintf("network %s: the daemon of the dhcp plugin has not released the lease within %s; it may do so later, or the lease expires",
			a.list.Name, releasePatience))
	}
	leaseless, err := libcni.InjectConf(plugin, map[string]any{"ipam": map[string]string{"type": "static"}})
	if err == nil {
		_, err = p.call(ctx, "DEL", leaseless, a, previous)
	}
	return true, err
}

func (a *attachment) lastResult() (types.Result, error) {
	result, err := create.CreateFromBytes(a.Result)
	if err != nil {
		return nil, err
	}
	return result.GetAsVersion(a.list.CNIVersion)
}

// Check tells whether a pod's network is still whole: the namespace, and what each plugin finds of its work (CNI 0.4.0 and
// later). It returns the recorded results.
func Check(ctx context.Context, p *poddir.Pod, o Options) ([]json.RawMessage, error) {
	where, err := network.Namespace(p.Dir())
	if err != nil {
		return nil, err
	}
	if where == "" {
		return nil, fmt.Errorf("pod %s: has no network (rkt-net add gives it one)", p.UUID)
	}
	results := []json.RawMessage{}
	if where == network.Host {
		return results, nil
	}
	if !netns.Pinned(p.UUID) {
		return nil, fmt.Errorf("pod %s: its network namespace %s is gone", p.UUID, where)
	}
	attachments, err := network.Attachments(p.Dir())
	if err != nil {
		return nil, err
	}
	calls := o.plugins(p.UUID, "", o.PluginDirs)
	var errs []error
	for _, recorded := range attachments {
		a, err := newAttachment(recorded)
		if err != nil {
			err = fmt.Errorf("%s: %w", filepath.Join(p.Path(poddir.NetDir), recorded.Interface, network.ConfigFile), err)
		} else if err = calls.check(ctx, a); err != nil {
			err = fmt.Errorf("network %s on %s: %w", a.list.Name, a.Interface, err)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		results = append(results, a.Result)
	}
	if err := oneLine(errs); err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	return results, nil
}

// interfaces are those that the network has in the pod: all but loopback make the one they are told to.
func (a *attachment) interfaces() ([]string, error) {
	var result struct {
		Interfaces []struct {
			Name    string `json:"name"`
			Sandbox string `json:"sandbox"`
		} `json:"interfaces"`
	}
	if err := json.Unmarshal(a.Result, &result); err != nil {
		return nil, fmt.Errorf("%s: %w", network.ResultFile, err)
	}
	var names []string
	for _, i := range result.Interfaces {
		if i.Sandbox != "" {
			names = append(names, i.Name)
		}
	}
	if names == nil { // CNI before 0.3.0
		names = []string{a.Interface}
	}
	return names, nil
}

func (p *plugins) check(ctx context.Context, a *attachment) error {
	interfaces, err := a.interfaces()
	if err != nil {
		return err
	}
	for _, name := range interfaces {
		has, err := netns.HasInterface(p.uuid, name)
		if err != nil {
			return err
		}
		if !has {
			return fmt.Errorf("the interface %s is gone", name)
		}
	}
	errs := []error{p.checkRules(ctx, a)}
	for _, plugin := range a.list.Plugins {
		if err := p.checkPlugin(ctx, plugin, a); err != nil {
			errs = append(errs, fmt.Errorf("plugin %s: %w", plugin.Network.Type, err))
		}
	}
	return oneLine(errs)
}

// checkRules looks for rules that no plugin's CHECK looks for.
func (p *plugins) checkRules(ctx context.Context, a *attachment) error {
	if a.masquerades() {
		m, err := a.masquerade(p.uuid)
		if err != nil {
			return err
		}
		missing, err := m.missing(ctx)
		if err != nil {
			return err
		}
		if missing.IsValid() {
			return fmt.Errorf("%s is not masqueraded any more (rkt-net check --repair puts rules back)", missing)
		}
	}
	if len(a.Ports) == 0 {
		return nil
	}
	guarded, err := netfilter.Guarded(ctx)
	if err == nil && !guarded {
		err = errors.New("the rules that keep pods from the host's 127.0.0.0/8 are gone (rkt-net check --repair puts them back)")
	}
	return err
}

// checkPlugin calls one plugin for CHECK, where its network's version of CNI has that, or looks
// itself.
func (p *plugins) checkPlugin(ctx context.Context, plugin *libcni.PluginConfig, a *attachment) error {
	if a.list.DisableCheck || !a.speaks("0.4.0") {
		return nil
	}
	result, err := a.lastResult()
	if err != nil {
		return err
	}
	if a.byNFTables(plugin) {
		if err := a.unforwarded(ctx, plugin, p.uuid); err != nil {
			return fmt.Errorf("%w (rkt-net check --repair puts rules back)", err)
		}
		return nil
	}
	if _, err := p.call(ctx, "CHECK", plugin, a, result); err != nil && !a.mistaken(ctx, plugin, err) {
		return err
	}
	return nil
}

// mistaken tells whether portmap's CHECK misses what need not be there. It looks for rules of IPv4, then of IPv6, whatever addresses
// the pod has; and where the pod has both it looks for IPv4's rules among IPv6's (containernetworking/plugins 1.1). Those are then
// looked for here.
func (a *attachment) mistaken(ctx context.Context, plugin *libcni.PluginConfig, err error) bool {
	n, errNetwork := a.Network()
	if plugin.Network.Type != portmap || errNetwork != nil {
		return false
	}
	is4 := slices.IndexFunc(n.IPs, netip.Addr.Is4)
	is6 := slices.IndexFunc(n.IPs, netip.Addr.Is6)
	switch {
	case is4 < 0:
		return strings.Contains(err.Error(), "could not check ipv4 dnat")
	case !strings.Contains(err.Error(), "could not check ipv6 dnat"):
		return false
	case is6 < 0:
		return true
	}
	return strings.Contains(err.Error(), n.IPs[is4].String()) && forwarded(ctx, "ip6tables", a.Ports, n.IPs[is6]) == nil
}
