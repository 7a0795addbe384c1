package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/rkt-toolkit/rkt/lib/host/netns"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/network/netfilter"
)

// Check reports whether a pod's network is still whole: the namespace, and what each plugin finds
// of its work (CNI 0.4.0 and later). It returns the recorded results.
func (a *Attacher) Check(ctx context.Context) ([]json.RawMessage, error) {
	p := a.pod
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
	calls := a.plugins("", a.PluginDirs)
	var errs []error
	for _, recorded := range attachments {
		to, err := newAttachment(recorded)
		if err != nil {
			err = fmt.Errorf("%s: %w", filepath.Join(a.netDir(), recorded.Interface, network.ConfigFile), err)
		} else if err = calls.check(ctx, to); err != nil {
			err = fmt.Errorf("network %s on %s: %w", to.list.Name, to.Interface, err)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		results = append(results, to.Result)
	}
	if err := oneLine(errs); err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	return results, nil
}

// interfaces are those that the network has in the pod: all but loopback make the one they are told
// to.
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
		err = errors.New("the rules that keep pods from the host's 127.0.0.0/8 are gone (rkt-net check --repair puts " +
			"them back)")
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

// mistaken reports whether portmap's CHECK misses what need not be there. It looks for rules of
// IPv4, then of IPv6, whatever addresses the pod has; and where the pod has both it looks for
// IPv4's rules among IPv6's (containernetworking/plugins 1.1). Those are then looked for here.
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
