package quadlet

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// netConf is what a .network file says.
type netConf struct {
	name, driver, device, ipam, mode string
	subnets, gateways, ranges, dns   []string
	internal                         bool
	mtu, vlan                        int
}

// plugin is a network of CNI, of one plugin.
type plugin struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Bridge    string `json:"bridge,omitempty"`
	IsGateway bool   `json:"isGateway,omitempty"`
	IPMasq    bool   `json:"ipMasq,omitempty"`
	Master    string `json:"master,omitempty"`
	Mode      string `json:"mode,omitempty"`
	MTU       int    `json:"mtu,omitempty"`
	VLAN      int    `json:"vlan,omitempty"`
	IPAM      ipam   `json:"ipam"`
	DNS       *dns   `json:"dns,omitempty"`
}

type dns struct {
	Nameservers []string `json:"nameservers"`
}

type ipam struct {
	Type   string    `json:"type"`
	Ranges [][]addrs `json:"ranges,omitempty"`
	Routes []route   `json:"routes,omitempty"`
}

type addrs struct {
	Subnet  string `json:"subnet"`
	Gateway string `json:"gateway,omitempty"`
	First   string `json:"rangeStart,omitempty"`
	Last    string `json:"rangeEnd,omitempty"`
}

type route struct {
	To string `json:"dst"`
}

// network is a file of net.d.
func network(f *file) (*Unit, error) {
	c := &conv{file: f}
	if err := c.convert(f, "Network"); err != nil {
		return nil, err
	}
	n := c.net
	p := plugin{Name: f.networkName(), Type: cmp.Or(n.driver, "bridge"), MTU: n.mtu, VLAN: n.vlan,
		Mode: n.mode, IPAM: ipam{Type: cmp.Or(n.ipam, "host-local")}}
	if strings.ContainsAny(p.Name, "/ %$") {
		return nil, fmt.Errorf("[Network] NetworkName=%s: not the name of a network", p.Name)
	}
	switch p.Type {
	case "bridge":
		p.Bridge, p.IsGateway, p.IPMasq = cmp.Or(n.device, bridgeName(p.Name)), true, !n.internal
	case "macvlan", "ipvlan":
		p.Master = n.device
	default:
		return nil, fmt.Errorf("[Network] has Driver=%s; rkt has bridge, macvlan and ipvlan; write a file of CNI into "+
			"/etc/rkt/net.d", p.Type)
	}
	if n.dns != nil {
		p.DNS = &dns{n.dns}
	}
	if err := p.IPAM.fill(n); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, err
	}
	return &Unit{Network: p.Name, NetworkText: append(text, '\n')}, nil
}

// bridgeName is a name that an interface can have, of at most 15 characters.
func bridgeName(network string) string {
	name := "rkt-" + network
	return name[:min(len(name), 15)]
}

// fill has the addresses.
func (i *ipam) fill(n netConf) error {
	switch {
	case i.Type == "dhcp" && n.subnets == nil:
		return nil
	case i.Type == "dhcp":
		return errors.New("leave out Subnet=: with IPAMDriver=dhcp the server gives addresses")
	case i.Type != "host-local":
		return fmt.Errorf("[Network] IPAMDriver=%s: rkt has host-local and dhcp", i.Type)
	case n.subnets == nil:
		return errors.New("[Network] has no Subnet=; write one that no other network has, such as Subnet=10.89.1.0/24")
	}
	for k, subnet := range n.subnets {
		prefix, err := netip.ParsePrefix(subnet)
		if err != nil {
			return fmt.Errorf("[Network] Subnet=%s: not ADDRESS/BITS", subnet)
		}
		a := addrs{Subnet: subnet}
		if k < len(n.gateways) {
			a.Gateway = n.gateways[k]
		}
		if k < len(n.ranges) {
			if a.First, a.Last, err = bounds(n.ranges[k]); err != nil {
				return fmt.Errorf("[Network] IPRange=%s: %w", n.ranges[k], err)
			}
		}
		i.Ranges = append(i.Ranges, []addrs{a})
		to := "0.0.0.0/0"
		if prefix.Addr().Is6() {
			to = "::/0"
		}
		if !n.internal {
			i.Routes = append(i.Routes, route{to})
		}
	}
	return nil
}

// bounds are the first and the last address of FIRST-LAST or of ADDRESS/BITS.
func bounds(s string) (first, last string, err error) {
	if first, last, ok := strings.Cut(s, "-"); ok {
		return first, last, nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return "", "", errors.New("neither FIRST-LAST nor ADDRESS/BITS")
	}
	from := prefix.Masked().Addr()
	bytes := from.AsSlice()
	for bit := prefix.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	to, _ := netip.AddrFromSlice(bytes)
	if from.Is4() && prefix.Bits() < 31 { // without the subnet's own address and that for broadcasts
		return from.Next().String(), to.Prev().String(), nil
	}
	return from.String(), to.String(), nil
}
