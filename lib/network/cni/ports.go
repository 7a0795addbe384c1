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
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/process"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/network/netfilter"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

// capability is what a plugin that forwards ports declares; portmap is the one that is added to a
// network without any.
const capability, portmap = "portMappings", "portmap"

// portsLock is a directory that is locked from the look whether a port is free to the note that it
// is taken, for milliseconds. It is under /run because what the lock guards is gone with a reboot.
const portsLock = "/run/rkt/ports"

// podPorts reads the ports that are to be forwarded to a pod.
func podPorts(p *poddir.Pod) ([]network.Port, error) {
	manifest, err := p.Manifest()
	if err != nil {
		return nil, err
	}
	ports, err := network.PodPorts(manifest)
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	return ports, nil
}

// forward has one network forward the ports, as rkt chose it: the first that masquerades, else the
// last.
func forward(attachments []*attachment, ports []network.Port) error {
	if len(ports) == 0 {
		return nil
	}
	chosen := attachments[len(attachments)-1]
	for _, a := range attachments {
		if a.masquerades() {
			chosen = a
			break
		}
	}
	chosen.Ports = ports
	if chosen.forwards() {
		return nil
	}
	if v := chosen.list.CNIVersion; v != "" && !chosen.speaks("0.3.0") {
		return fmt.Errorf("%s: has cniVersion %s: forwarding ports needs 0.3.0 or later", chosen.label, v)
	}
	return chosen.chain(map[string]any{
		"type": portmap, "capabilities": map[string]bool{capability: true}, "snat": true,
		// or the pod could not answer whom it has no route to; portmap 1.1 does not know it
		"masqAll": !chosen.routed(),
	})
}

// forwards reports whether one of the list's plugins forwards ports.
func (a *attachment) forwards() bool {
	for _, plugin := range a.list.Plugins {
		if plugin.Network.Capabilities[capability] {
			return true
		}
	}
	return false
}

// routed reports whether the network gives a pod a default route, so far as its configuration says.
func (a *attachment) routed() bool {
	for _, plugin := range a.list.Plugins {
		o := optionsOf(plugin)
		if o.IPAM.Type == dhcp || o.DefaultGateway || plugin.Network.Type == flannel && o.Delegate.DefaultGateway {
			return true
		}
		for _, route := range o.IPAM.Routes {
			if prefix, err := netip.ParsePrefix(route.Dst); err == nil && prefix.Bits() == 0 {
				return true
			}
		}
	}
	return false
}

// chain adds a plugin to the end of the list.
func (a *attachment) chain(plugin any) error {
	var configs []json.RawMessage
	for _, p := range a.list.Plugins {
		configs = append(configs, p.Bytes)
	}
	added, err := json.Marshal(plugin)
	if err != nil {
		return err
	}
	return a.setPlugins(append(configs, added))
}

// setPlugins replaces the configurations of the list's plugins.
func (a *attachment) setPlugins(configs []json.RawMessage) error {
	var list map[string]json.RawMessage
	err := json.Unmarshal(a.Config, &list)
	if err == nil {
		list["plugins"], err = json.Marshal(configs)
	}
	if err == nil {
		a.Config, err = json.Marshal(list)
	}
	if err != nil {
		return err
	}
	changed, err := newAttachment(a.Attachment)
	if err == nil {
		a.list = changed.list
	}
	return err
}

// reserve looks whether the ports are free and returns a lock under which the caller notes that
// they are taken: of two pods that want the same port at the same time, one sees the other. A pod
// that has exited loses its network to one that wants its ports.
func (a *Attacher) reserve(ctx context.Context, ports []network.Port) (*os.File, error) {
	if err := os.MkdirAll(portsLock, 0o755); err != nil {
		return nil, err
	}
	for {
		lock, err := durable.Lock(portsLock, lockTimeout)
		if err != nil {
			return nil, err
		}
		holder, port, err := heldBy(a.pod, ports)
		if err == nil && holder == nil {
			for _, port := range ports {
				if err := bindTest(port); err != nil {
					lock.Close()
					return nil, err
				}
			}
			if err := foreignForward(ctx, a.pod.UUID, ports); err != nil {
				lock.Close()
				return nil, err
			}
			return lock, nil
		}
		lock.Close()
		if err != nil {
			return nil, err
		}
		released, err := New(holder, a.Options).releaseExited(ctx)
		if err != nil {
			return nil, fmt.Errorf("port %s: was forwarded to pod %s, which has exited: %w", port, holder.UUID, err)
		}
		if !released {
			return nil, fmt.Errorf("port %s: is forwarded to pod %s already%s", port, holder.UUID, named(holder))
		}
	}
}

// named adds the name of a pod, by which a user knows it, to its UUID.
func named(p *poddir.Pod) string {
	if name := p.Name(); name != "" {
		return " (" + name + ")"
	}
	return ""
}

// heldBy finds another pod that has one of the ports.
func heldBy(p *poddir.Pod, ports []network.Port) (*poddir.Pod, network.Port, error) {
	all, err := poddir.In(filepath.Dir(filepath.Dir(p.Dir()))).All()
	if err != nil {
		return nil, network.Port{}, err
	}
	for _, other := range all {
		if other.UUID == p.UUID {
			continue
		}
		taken, err := network.Forwarded(other.Dir())
		if err != nil {
			return nil, network.Port{}, err
		}
		for _, t := range taken {
			for _, port := range ports {
				if port.Conflicts(t) {
					return other, port, nil
				}
			}
		}
	}
	return nil, network.Port{}, nil
}

// releaseExited takes the pod's network away, if the pod has exited and nobody works on it.
func (a *Attacher) releaseExited(ctx context.Context) (bool, error) {
	p := a.pod
	lock, err := p.Lock()
	if errors.Is(err, durable.ErrLocked) {
		return false, nil
	}
	if errors.Is(err, poddir.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if !p.StateHeld().Ended() {
		return false, nil
	}
	return true, a.detach(ctx)
}

// bindTest reports whether a program of the host has a port.
func bindTest(port network.Port) error {
	kind, protocol := unix.SOCK_STREAM, 0
	switch port.Protocol {
	case "udp":
		kind = unix.SOCK_DGRAM
	case "sctp":
		protocol = unix.IPPROTO_SCTP
	}
	addresses := []string{port.HostIP}
	if port.HostIP == "" {
		addresses = []string{"0.0.0.0", "::"}
	}
	for _, address := range addresses {
		ip, err := netip.ParseAddr(address)
		if err != nil {
			return fmt.Errorf("port %s: %w", port, err)
		}
		family, to := unix.AF_INET, unix.Sockaddr(nil)
		if ip.Is4() {
			to = &unix.SockaddrInet4{Port: port.HostPort, Addr: ip.As4()}
		} else {
			family, to = unix.AF_INET6, &unix.SockaddrInet6{Port: port.HostPort, Addr: ip.As16()}
		}
		socket, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
		if err == unix.EAFNOSUPPORT || err == unix.EPROTONOSUPPORT { // then nobody has one
			continue
		}
		if err != nil {
			return fmt.Errorf("port %s: %w", port, err)
		}
		if kind == unix.SOCK_STREAM { // connections that have ended are in nobody's way
			unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		}
		if ip.Is6() {
			unix.SetsockoptInt(socket, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
			unix.SetsockoptInt(socket, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
		} else { // an address that the host does not have now it may have later
			unix.SetsockoptInt(socket, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
		}
		err = unix.Bind(socket, to)
		unix.Close(socket)
		if err == unix.EADDRINUSE {
			return inUse(port, ip)
		}
		if err != nil && err != unix.EADDRNOTAVAIL { // no IPv6
			return fmt.Errorf("port %s: %w", port, err)
		}
	}
	return nil
}

// inUse is the error that a program of the host has a port at an address, with the program's name.
func inUse(port network.Port, ip netip.Addr) error {
	if pid, name := process.Listener(port.Protocol, ip, port.HostPort); pid != 0 {
		return fmt.Errorf("port %s: is in use on the host by %s (process %d); stop it, or choose another port", port,
			name, pid)
	}
	return fmt.Errorf("port %s: is in use on the host; choose another port", port)
}

// foreignForward reports whether a rule that is not of this toolkit's pods of the same data
// directory has one of the ports.
func foreignForward(ctx context.Context, uuid string, ports []network.Port) error {
	for _, family := range []string{"iptables", "ip6tables"} {
		rules, err := forwards(ctx, family)
		if err != nil {
			return err
		}
		for _, f := range rules {
			if strings.Contains(f.owner, `id: \"`+uuid+`\"`) || f.owner == uuid {
				continue
			}
			for _, port := range ports {
				if port.Conflicts(f.Port) {
					return fmt.Errorf("port %s: is forwarded to %s already, by a rule in the nat table's chain %s",
						port, f.to, f.chain)
				}
			}
		}
	}
	return nil
}

// forwarded tells which port is not forwarded to a pod's address, by the rules that there are.
func forwarded(ctx context.Context, family string, ports []network.Port, to netip.Addr) error {
	rules, err := forwards(ctx, family)
	if err != nil {
		return err
	}
	return allForwarded(rules, ports, to)
}

// allForwarded tells which port is not forwarded to an address by the given rules.
func allForwarded(rules []forwarding, ports []network.Port, to netip.Addr) error {
	for _, port := range ports {
		if ip, err := netip.ParseAddr(port.HostIP); err == nil && ip.Is4() != to.Is4() {
			continue
		}
		there := netip.AddrPortFrom(to, uint16(port.ContainerPort)).String()
		if !slices.ContainsFunc(rules, func(f forwarding) bool { return port.Conflicts(f.Port) && f.to == there }) {
			return fmt.Errorf("port %s: is not forwarded to %s", port, there)
		}
	}
	return nil
}

// forwards lists the rules of a family ("iptables", "ip6tables") that forward a port for everyone,
// those of nftables among them.
func forwards(ctx context.Context, family string) ([]forwarding, error) {
	saved, err := saveNAT(ctx, family)
	if err != nil {
		return nil, err
	}
	rules, err := netfilter.NFTRules(ctx, "")
	if err != nil {
		return nil, err
	}
	return append(parseForwards(saved), forwardsNFT(rules, family)...), nil
}

// forwardsNFT finds them among the rules of nftables.
func forwardsNFT(rules []netfilter.NFTRule, family string) (found []forwarding) {
	families := map[string][]string{"iptables": {"ip", "inet"}, "ip6tables": {"ip6", "inet"}}[family]
	for _, rule := range rules {
		if !slices.Contains(families, rule.Family) {
			continue
		}
		for _, f := range rule.Forwards() {
			for n := f.First; n <= f.Last; n++ {
				found = append(found, forwarding{Port: network.Port{HostPort: n, Protocol: f.Protocol,
					HostIP: f.Address},
					chain: rule.Table + " " + rule.Chain, to: f.To, owner: rule.Comment})
			}
		}
	}
	return found
}

// forwarding is a rule that sends a port of the host elsewhere.
type forwarding struct {
	network.Port
	chain, to string
	owner     string // the rule that leads to the chain, or the comment of one of nftables
}

// parseForwards finds them in what iptables-save prints.
func parseForwards(saved string) (found []forwarding) {
	owners := map[string]string{}
	for line := range strings.Lines(saved) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "-A" {
			continue
		}
		option := func(name string) string {
			for i, w := range words[:len(words)-1] {
				if w == name && words[i-1] != "!" {
					return words[i+1]
				}
			}
			return ""
		}
		target := option("-j")
		if target != "DNAT" {
			owners[target] += line
			continue
		}
		first, last, isRange := strings.Cut(option("--dport"), ":")
		low, err := strconv.Atoi(first)
		high := low
		if isRange && err == nil {
			high, err = strconv.Atoi(last)
		}
		if err != nil || option("-s") != "" || option("-i") != "" {
			continue
		}
		address, bits, _ := strings.Cut(option("-d"), "/")
		if bits != "32" && bits != "128" {
			address = ""
		}
		for n := low; n <= high; n++ {
			found = append(found, forwarding{Port: network.Port{HostPort: n, Protocol: option("-p"), HostIP: address},
				chain: words[1], to: option("--to-destination")})
		}
	}
	for i := range found {
		found[i].owner = owners[found[i].chain]
	}
	return slices.DeleteFunc(found, func(f forwarding) bool {
		// of a chain to which nothing leads: its plugin was killed
		return f.owner == "" && strings.HasPrefix(f.chain, "CNI-")
	})
}
