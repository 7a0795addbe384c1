package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/netns"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

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
