package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/netns"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/network/peers"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Add gives a prepared pod its network and returns the CNI results, one per network. What an
// earlier Add that was killed has left is taken back first. When Add fails it takes back what it
// did.
func (a *Attacher) Add(ctx context.Context, selection network.Selection) ([]json.RawMessage, error) {
	p := a.pod
	lock, err := p.Lock()
	if errors.Is(err, durable.ErrLocked) {
		return nil, busy(p)
	}
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if state := p.StateHeld(); state != poddir.Prepared {
		return nil, fmt.Errorf("pod %q is not prepared: it is %s, and only a prepared pod can be given a network",
			p.UUID, state)
	}
	whole, err := a.attached()
	if err != nil {
		return nil, err
	}
	if whole {
		return nil, fmt.Errorf("pod %s: has its network already (rkt-net del takes it away)", p.UUID)
	}
	if selection, err = a.ofFlavor(selection); err != nil {
		return nil, err
	}
	attachments, err := a.intend(ctx, selection)
	if err != nil {
		return nil, err
	}
	if err := a.begin(ctx, selection, attachments); err != nil {
		return nil, err
	}
	results, err := a.attach(ctx, selection, attachments)
	if err != nil {
		return nil, a.takeBack(ctx, err)
	}
	if err := peers.Update(p.Pods()); err != nil { // the pod's own are as they should be when it starts
		a.warn(fmt.Sprintf("names of pods: %v", err))
	}
	return results, nil
}

// ofFlavor is the selection for a pod whose flavor may give it no network of its own: then it is
// the host's, which need not be said.
func (a *Attacher) ofFlavor(selection network.Selection) (network.Selection, error) {
	_, err := a.pod.ReadFile(poddir.HostNetFile)
	if errors.Is(err, fs.ErrNotExist) {
		return selection, nil
	}
	if err != nil {
		return nil, err
	}
	if len(selection) > 0 && !selection.Host() {
		return nil, fmt.Errorf("pod %s: --net=%s: a pod of its flavor has the host's network, --net=host",
			a.pod.UUID, &selection)
	}
	return network.Selection{{Name: network.Host}}, nil
}

// begin writes down what is intended, so that it outlasts a loss of power, and makes the pod's
// namespace. After it plugins may act.
func (a *Attacher) begin(ctx context.Context, selection network.Selection, attachments []*attachment) error {
	if err := a.note(ctx, attachments); err != nil {
		return err
	}
	err := durable.SyncTree(a.netDir(), a.pod.Dir())
	if err == nil && !selection.Host() {
		err = netns.Create(a.pod.UUID, a.pod.DataDir())
	}
	if err != nil {
		return a.takeBack(ctx, err)
	}
	return nil
}

// note writes down what is intended, when all that can be known beforehand says that it can be
// done. Ports stay locked until others see that they are taken.
func (a *Attacher) note(ctx context.Context, attachments []*attachment) error {
	for _, to := range attachments {
		if len(to.Ports) > 0 {
			lock, err := a.reserve(ctx, to.Ports)
			if err != nil {
				return err
			}
			defer lock.Close()
		}
	}
	if err := a.detach(ctx); err != nil {
		return fmt.Errorf("taking back what an earlier rkt-net add left: %w", err)
	}
	if err := a.record(attachments); err != nil {
		return a.takeBack(ctx, err)
	}
	return nil
}

// takeBack undoes what an Add has done that failed, and returns its error.
func (a *Attacher) takeBack(ctx context.Context, err error) error {
	if undo := a.detach(context.WithoutCancel(ctx)); undo != nil {
		return fmt.Errorf("%w; taking it back: %w", err, undo)
	}
	return err
}

// attached reports whether the pod has a network that is whole, so far as can be told without its
// plugins.
func (a *Attacher) attached() (bool, error) {
	where, err := network.Namespace(a.pod.Dir())
	return where == network.Host || where != "" && netns.Pinned(a.pod.UUID), err
}

// intend finds all that is needed to attach the pod, and changes nothing.
func (a *Attacher) intend(ctx context.Context, selection network.Selection) ([]*attachment, error) {
	ports, err := podPorts(a.pod) // without those that are socket activated, which need no network
	if err != nil {
		return nil, err
	}
	if name := without(selection); name != "" {
		if len(a.Names.Aliases) > 0 {
			return nil, fmt.Errorf("--net-alias=%s: no pod looks for it there with --net=%s", a.Names.Aliases[0], name)
		}
		if len(ports) > 0 { // in rkt's words, for scripts
			return nil, fmt.Errorf("port %s: --port flag does not work with '%s' networking", ports[0], name)
		}
		return nil, nil
	}
	attachments, err := a.choose(selection)
	if err != nil {
		return nil, err
	}
	if err := forward(attachments, ports); err != nil {
		return nil, err
	}
	if err := overlap(attachments); err != nil {
		return nil, err
	}
	calls := a.plugins("", a.PluginDirs)
	for _, to := range attachments {
		if err := calls.settle(ctx, to); err != nil {
			return nil, fmt.Errorf("%s: %w", to.label, err)
		}
	}
	return attachments, nil
}

// without names the network that needs no plugin, if that is what is selected.
func without(selection network.Selection) string {
	switch {
	case selection.Host():
		return network.Host
	case selection.None():
		return network.None
	}
	return ""
}

// choose makes an attachment of each network that is selected.
func (a *Attacher) choose(selection network.Selection) ([]*attachment, error) {
	configs, err := network.Load(a.ConfigDirs...)
	if err != nil {
		return nil, err
	}
	choices, err := selection.Resolve(configs)
	if err != nil {
		return nil, err
	}
	var attachments []*attachment
	for i, choice := range choices {
		to, err := newAttachment(network.Attachment{Interface: network.Interface(i), Config: choice.List,
			Args: choice.Args})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", choice.Label(), err)
		}
		to.label, to.aliases = choice.Label(), choice.Aliases
		if err := to.misspelt(a.Warn); err != nil {
			return nil, fmt.Errorf("%s: %w", to.label, err)
		}
		attachments = append(attachments, to)
	}
	return attachments, nil
}

// settle decides what an attachment leaves open, the version of CNI and the backends of rules, if
// nothing that it needs is missing.
func (p *plugins) settle(ctx context.Context, a *attachment) error {
	if err := p.settleVersion(ctx, a); err != nil {
		return err
	}
	if err := p.checkPrograms(a); err != nil {
		return err
	}
	return p.settleBackends(ctx, a)
}

// checkPrograms returns an error if a program is missing that an attachment needs, before anything
// is changed.
func (p *plugins) checkPrograms(a *attachment) error {
	for _, program := range a.programs() {
		if _, err := p.FindInPath(program, p.dirs); err != nil {
			return fmt.Errorf("plugin %s: %w", program, err)
		}
	}
	for _, plugin := range a.list.Plugins {
		if err := optionsOf(plugin).daemon(); err != nil {
			return err
		}
		if err := missingFirewall(plugin); err != nil {
			return err
		}
	}
	return nil
}

// attach does what is noted, and writes net/netns last.
func (a *Attacher) attach(ctx context.Context, selection network.Selection,
	attachments []*attachment) ([]json.RawMessage, error) {
	where, write := netns.Path(a.pod.UUID), durable.WriteForNow
	if selection.Host() { // which a reboot does not take
		where, write = network.Host, durable.WriteFile
	}
	calls := a.plugins(a.netDir(), a.PluginDirs)
	results := []json.RawMessage{}
	for _, to := range attachments {
		err := calls.add(ctx, to)
		if err != nil && ctx.Err() == nil && a.reclaim(ctx, to) && calls.del(ctx, to) == nil {
			// the address that it wants, or all, were a dead pod's
			to.result, to.Result = nil, nil
			err = calls.add(ctx, to)
		}
		if err == nil {
			err = to.asExpected()
		}
		if holder := a.addressHolder(to); err != nil && holder != nil {
			err = fmt.Errorf("%w; pod %s has it%s", err, holder.UUID, named(holder))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", to.label, err)
		}
		results = append(results, to.Result)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if err := a.writeNames(attachments, selection.Host()); err != nil {
		return nil, err
	}
	return results, write(a.pod.Path(poddir.NetnsFile), []byte(where+"\n"), 0o644)
}

// asExpected reports whether plugins that were content have done what was asked of them.
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

// writeNames writes the files by which apps find names. They need not last longer than the
// namespace, which no reboot survives; a pod in the host's network has none.
func (a *Attacher) writeNames(attachments []*attachment, host bool) error {
	var results [][]byte
	for _, to := range attachments {
		results = append(results, to.Result)
	}
	files, err := a.Names.Files(results, host)
	if err != nil {
		return err
	}
	write := os.WriteFile
	if host {
		write = durable.WriteFile
	}
	for name, text := range files {
		if err := write(filepath.Join(a.netDir(), name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if host {
		return nil
	}
	return a.noteNames(attachments)
}

// noteNames notes what other pods call the pod.
func (a *Attacher) noteNames(attachments []*attachment) error {
	var entries []peers.Entry
	for _, to := range attachments {
		network, err := to.Network()
		if err != nil {
			return err
		}
		names := peers.PodNames(a.pod, slices.Concat(a.Names.Aliases, to.aliases))
		for _, ip := range network.IPs {
			entries = append(entries, peers.Entry{Network: network.Name, Address: ip, Names: names})
		}
	}
	return peers.Note(a.pod, entries)
}

// record makes the pod's net/ in one rename. It is not on the disk yet.
func (a *Attacher) record(attachments []*attachment) error {
	tmp := a.pod.Path(newDir)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	files := map[string]string{network.PathFile: strings.Join(a.PluginDirs, "\n") + "\n"}
	for _, to := range attachments {
		if err := os.Mkdir(filepath.Join(tmp, to.Interface), 0o755); err != nil {
			return err
		}
		files[filepath.Join(to.Interface, network.ConfigFile)] = string(to.Config)
		if to.Args != "" {
			files[filepath.Join(to.Interface, network.ArgsFile)] = to.Args + "\n"
		}
		if len(to.Ports) > 0 {
			text, err := json.Marshal(to.Ports)
			if err != nil {
				return err
			}
			files[filepath.Join(to.Interface, network.PortsFile)] = string(text) + "\n"
		}
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(tmp, name), []byte(data), 0o644); err != nil {
			return err
		}
	}
	return os.Rename(tmp, a.netDir())
}

// add calls the plugins of one network in order, and keeps the result of each.
func (p *plugins) add(ctx context.Context, a *attachment) error {
	for _, plugin := range a.list.Plugins {
		result, err := p.call(ctx, "ADD", plugin, a, a.result)
		if err != nil {
			return fmt.Errorf("plugin %s: %w", plugin.Network.Type, err)
		}
		a.result = result
		if a.Result, err = json.Marshal(result); err != nil {
			return fmt.Errorf("plugin %s: %w", plugin.Network.Type, err)
		}
		file := filepath.Join(p.netDir, a.Interface, network.ResultFile)
		if err := durable.WriteForNow(file, append(a.Result, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}
