package cni

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// subnets are those that a network's host-local takes addresses from. What can't be parsed is
// host-local's to refuse.
func (a *attachment) subnets() (all []subnet) {
	for _, plugin := range a.list.Plugins {
		o := optionsOf(plugin)
		if o.IPAM.Type != "host-local" {
			continue
		}
		// A bridge that is no gateway, macvlan and ipvlan are part of a network of the host's, and
		// take from its addresses.
		routed := plugin.Network.Type == "ptp" || plugin.Network.Type == "bridge" && (o.Gateway || o.DefaultGateway)
		ranges := append(o.IPAM.Ranges, []ipRange{o.IPAM.ipRange})
		for _, set := range ranges {
			for _, r := range set {
				prefix, err := netip.ParsePrefix(r.Subnet)
				if err != nil {
					continue
				}
				s := subnet{Prefix: prefix.Masked(), routed: routed}
				if s.gateway, err = netip.ParseAddr(r.Gateway); err != nil {
					s.gateway = s.Addr().Next()
				}
				all = append(all, s)
			}
		}
	}
	return all
}

type subnet struct {
	netip.Prefix
	gateway netip.Addr // the host's own address in it
	routed  bool       // and only the toolkit's pods are in it
}

// overlap reports whether a network's subnet is in use otherwise: by a network that the pod joins
// too, by a network of other pods, or by the host.
func overlap(attachments []*attachment) error {
	var host []netip.Prefix
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, address := range addresses {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			host = append(host, prefix)
		}
	}
	for i, a := range attachments {
		for _, s := range a.subnets() {
			for _, b := range attachments[:i] {
				for _, t := range b.subnets() {
					if s.Overlaps(t.Prefix) {
						return fmt.Errorf("%s: its subnet %s overlaps %s of %s", a.label, s, t, b.label)
					}
				}
			}
			if !s.routed {
				continue
			}
			for _, prefix := range host {
				if prefix.Addr() != s.gateway && s.Overlaps(prefix) {
					return fmt.Errorf("%s: its subnet %s overlaps the host's own address %s", a.label, s, prefix)
				}
			}
			if other := reservedIn(s.Prefix, a.list.Name); other != "" {
				return fmt.Errorf("%s: its subnet %s overlaps that of %s", a.label, s, other)
			}
		}
	}
	return nil
}

// reservedIn finds an address of a subnet that host-local has given away in another network than
// the given one, and tells whose it is; "" if there is none.
func reservedIn(s netip.Prefix, name string) string {
	networks, err := os.ReadDir(hostLocalDir)
	if err != nil {
		return ""
	}
	for _, network := range networks {
		if network.Name() == name {
			continue
		}
		dir := filepath.Join(hostLocalDir, network.Name())
		reservations, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, r := range reservations {
			if ip, err := netip.ParseAddr(r.Name()); err == nil && s.Contains(ip) {
				// the container's ID and its interface's name, each a line
				text, _ := os.ReadFile(filepath.Join(dir, r.Name()))
				owner, _, _ := strings.Cut(string(text), "\n")
				return fmt.Sprintf("network %s, which has given %s to %s", network.Name(), ip, strings.TrimSpace(owner))
			}
		}
	}
	return ""
}
