package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/libcni"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/netns"
	"github.com/rkt-toolkit/rkt/lib/network"
)

// Repair puts the host's rules back that a pod's network needs and somebody has removed, as "nft
// flush ruleset" and the reload of a firewall do, and then checks the network. The pod may be
// running. What is inside of the namespace is not touched.
func (a *Attacher) Repair(ctx context.Context) ([]json.RawMessage, error) {
	p := a.pod
	state, err := p.State()
	if err != nil {
		return nil, err
	}
	if state.Ended() {
		return nil, fmt.Errorf("pod %s: has exited", p.UUID)
	}
	where, err := network.Namespace(p.Dir())
	if err != nil {
		return nil, err
	}
	if where != "" && where != network.Host && netns.Pinned(p.UUID) {
		if err := a.repair(ctx); err != nil {
			return nil, fmt.Errorf("pod %s: %w", p.UUID, err)
		}
	}
	return a.Check(ctx)
}

// repair holds the lock of the plugins: a Del that comes meanwhile removes net/netns first, which
// says here that it has come, and calls its plugins after these.
func (a *Attacher) repair(ctx context.Context) error {
	lock, err := durable.Lock(a.netDir(), lockTimeout)
	if err != nil {
		return fmt.Errorf("waiting for another program's plugin: %w", err)
	}
	defer lock.Close()
	if where, err := network.Namespace(a.pod.Dir()); err != nil || where == "" {
		return errors.Join(err, errors.New("its network is being taken down"))
	}
	attachments, err := network.Attachments(a.pod.Dir())
	if err != nil {
		return err
	}
	calls := a.plugins(a.netDir(), a.recordedDirs())
	calls.held = lock
	var errs []error
	for _, recorded := range attachments {
		to, err := newAttachment(recorded)
		if err == nil {
			err = calls.repair(ctx, to)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("network on %s: %w", recorded.Interface, err))
		}
	}
	return oneLine(errs)
}

// repair puts back the rules of one attachment.
func (p *plugins) repair(ctx context.Context, a *attachment) error {
	if a.masquerades() {
		m, err := a.masquerade(p.uuid)
		if err == nil {
			err = m.put(ctx)
		}
		if err != nil {
			return fmt.Errorf("masquerading: %w", err)
		}
	}
	for _, plugin := range a.list.Plugins {
		if t := plugin.Network.Type; t != portmap && t != "firewall" { // the others make no rules
			continue
		}
		if err := p.repairPlugin(ctx, plugin, a); err != nil {
			return fmt.Errorf("plugin %s: %w", plugin.Network.Type, err)
		}
	}
	return nil
}

// repairPlugin has portmap or firewall make its rules again, which it can do for an interface that
// is there. What is there in part goes first, since the order of rules matters; what portmap has
// all of by iptables is added again for the chains of all pods, at which its CHECK does not look.
func (p *plugins) repairPlugin(ctx context.Context, plugin *libcni.PluginConfig, a *attachment) error {
	result, err := a.lastResult()
	if err != nil {
		return err
	}
	if !a.speaks("0.4.0") || p.checkPlugin(ctx, plugin, a) != nil {
		if _, err := p.call(ctx, "DEL", plugin, a, result); err != nil {
			return err
		}
	} else if plugin.Network.Type != portmap || a.byNFTables(plugin) {
		return nil
	}
	_, err = p.call(ctx, "ADD", plugin, a, result)
	return err
}
