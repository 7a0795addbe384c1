package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/rkt-toolkit/rkt/lib/host/program"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/network/netfilter"
)

// backendKeys are the keys by which a plugin is told what to make rules of the host by, see
// netfilter.Backend. Plugins before 1.6 know none, and only iptables.
var backendKeys = map[string]string{"ptp": "ipMasqBackend", "bridge": "ipMasqBackend", portmap: "backend"}

// toThisHost is a condition that portmap 1.6 to 1.8 does not make by nftables. Without it, whatever
// passes through the host to a forwarded port number of any address is sent to the pod
// (CVE-2025-67499). Later ones make it themselves, and once more does not hurt.
var toThisHost = []string{"fib", "daddr", "type", "local"}

// needsRules says for what a plugin of the attachment makes rules of the host; "" if it makes none.
func (a *attachment) needsRules(plugin *libcni.PluginConfig) string {
	switch o := optionsOf(plugin); {
	case backendKeys[plugin.Network.Type] == "ipMasqBackend" && o.Masquerade:
		return "ipMasq"
	case plugin.Network.Type == portmap && len(a.Ports) > 0 && plugin.Network.Capabilities[capability]:
		return "a forwarded port"
	}
	return ""
}

// backend is what a plugin makes its rules by: what its configuration says, else, for a record of a
// toolkit that did not write it down, what the plugin would choose now. An error says that there is
// neither.
func backend(plugin *libcni.PluginConfig) (string, error) {
	o := optionsOf(plugin)
	said := o.MasqueradeBackend
	if plugin.Network.Type == portmap {
		said = o.Backend
	}
	if said != "" {
		return said, nil
	}
	return netfilter.Backend()
}

// settleBackends writes into the configuration by what each plugin makes rules of the host, where
// that is left to the plugin: the plugin that removes them must look in the same place, whatever
// the host has then.
func (p *plugins) settleBackends(ctx context.Context, a *attachment) error {
	var configs []json.RawMessage
	for _, plugin := range a.list.Plugins {
		name, config := plugin.Network.Type, json.RawMessage(plugin.Bytes)
		if why := a.needsRules(plugin); why != "" {
			by, err := backend(plugin)
			if err == nil {
				err = missingProgram(by)
			}
			if (err != nil || by == netfilter.NFTables) && p.predatesNFTables(ctx, name) {
				err = onlyIPTables()
			}
			if err == nil {
				config, err = settled(plugin, by)
			}
			if err != nil {
				return fmt.Errorf("plugin %s: %s %w", name, why, err)
			}
		}
		configs = append(configs, config)
	}
	return a.setPlugins(configs)
}

// missingProgram is an error if the program is missing by which rules are made.
func missingProgram(backend string) error {
	switch {
	case backend == netfilter.IPTables && netfilter.Program("iptables") == "":
		return errors.New("needs iptables, which is not in $PATH (Debian package iptables)")
	case backend == netfilter.NFTables && netfilter.Program("nft") == "":
		return errors.New("needs nft, which is not in $PATH (Debian package nftables)")
	}
	return nil
}

// onlyIPTables is the error for a plugin that can't make its rules by nftables.
func onlyIPTables() error {
	const others = "CNI plugins from 1.6 on can use nftables"
	if err := missingProgram(netfilter.IPTables); err != nil {
		return fmt.Errorf("%w; %s", err, others)
	}
	return errors.New("works by iptables only with this version of the plugin; " + others)
}

// settled is a plugin's configuration that says by what it makes its rules.
func settled(plugin *libcni.PluginConfig, backend string) (json.RawMessage, error) {
	var config map[string]any
	if err := json.Unmarshal(plugin.Bytes, &config); err != nil {
		return nil, err
	}
	config[backendKeys[plugin.Network.Type]] = backend
	if plugin.Network.Type == portmap && backend == netfilter.NFTables {
		restrict(config, "conditionsV4")
		restrict(config, "conditionsV6")
	}
	return json.Marshal(config)
}

// restrict adds toThisHost to the conditions of portmap's rules.
func restrict(config map[string]any, key string) {
	conditions, isList := config[key].([]any)
	if config[key] != nil && !isList {
		return // portmap's to refuse
	}
	for _, word := range toThisHost {
		conditions = append(conditions, word)
	}
	config[key] = conditions
}

// predatesNFTables reports whether a plugin is older than CNI's version 1.1, which came to the
// plugins half a year before nftables.
func (p *plugins) predatesNFTables(ctx context.Context, name string) bool {
	path, err := p.FindInPath(name, p.dirs)
	if err != nil {
		return false
	}
	info, err := invoke.GetVersionInfo(ctx, path, p)
	return err != nil || !slices.Contains(info.SupportedVersions(), "1.1.0")
}

// missingFirewall is an error for the plugin firewall, which has no rules of nftables, on a host
// where it can make none.
func missingFirewall(plugin *libcni.PluginConfig) error {
	if plugin.Network.Type != "firewall" || netfilter.Program("iptables") != "" {
		return nil
	}
	if said := optionsOf(plugin).Backend; said == "firewalld" {
		return nil
	}
	if _, err := program.Look("firewalld"); err == nil { // which the plugin asks, if it runs
		return nil
	}
	return errors.New("plugin firewall needs iptables or firewalld, and neither is in $PATH " +
		"(Debian packages iptables, firewalld)")
}

// portTables are portmap's tables of nftables, of IPv4 and IPv6.
var portTables = []string{"ip cni_hostport", "ip6 cni_hostport"}

// unforwarded is an error if nftables does not forward the attachment's ports to the pod, as
// portmap has it do. portmap's own CHECK does not look whether anything leads to its rules, and
// that of 1.6 to 1.8 counts them wrongly.
func (a *attachment) unforwarded(ctx context.Context, plugin *libcni.PluginConfig, uuid string) error {
	n, err := a.Network()
	if err != nil {
		return err
	}
	snat := optionsOf(plugin).SNAT
	seen := map[bool]bool{}
	for _, ip := range n.IPs {
		if seen[ip.Is6()] { // portmap forwards to the first of a family
			continue
		}
		seen[ip.Is6()] = true
		rules, err := netfilter.NFTRules(ctx, map[bool]string{false: portTables[0], true: portTables[1]}[ip.Is6()])
		if err != nil {
			return err
		}
		if err := missingForward(rules, a.Ports, ip, uuid, snat == nil || *snat); err != nil {
			return err
		}
	}
	return nil
}

// missingForward is the error for a port that rules of portmap's table do not forward to an
// address, or for an answer that would not come back.
func missingForward(rules []netfilter.NFTRule, ports []network.Port, to netip.Addr, uuid string, snat bool) error {
	leads, masquerades := map[string]bool{}, false
	var own []netfilter.NFTRule
	for _, rule := range rules {
		leads[rule.Chain] = leads[rule.Chain] || rule.Jumps()
		if rule.Comment == uuid {
			own = append(own, rule)
			masquerades = masquerades || rule.Chain == "masquerading"
		}
	}
	family := map[bool]string{true: "iptables", false: "ip6tables"}[to.Is4()]
	if err := allForwarded(forwardsNFT(own, family), ports, to); err != nil {
		return err
	}
	if !leads["prerouting"] || !leads["output"] || snat && !masquerades {
		return fmt.Errorf("rules of the table cni_hostport by which ports are forwarded to %s are gone", to)
	}
	return nil
}

// byNFTables reports whether the plugin is portmap and forwards the attachment's ports by nftables.
func (a *attachment) byNFTables(plugin *libcni.PluginConfig) bool {
	if plugin.Network.Type != portmap || a.needsRules(plugin) == "" {
		return false
	}
	by, err := backend(plugin)
	return err == nil && by == netfilter.NFTables
}
