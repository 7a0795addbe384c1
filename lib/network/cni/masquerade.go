package cni

import (
	"context"
	"crypto/sha512"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/rkt-toolkit/rkt/lib/network/netfilter"
)

// Plugins masquerade by iptables or, since 1.6, by nftables. Their CHECK does not look at these
// rules, their DEL finds them by the interface only, and their ADD can't be repeated without making
// the interface anew. So the rules are looked for, put back and removed here, as ptp and bridge
// write them.

// masquerades reports whether one of the network's plugins masquerades.
func (a *attachment) masquerades() bool {
	for _, plugin := range a.list.Plugins {
		if optionsOf(plugin).Masquerade {
			return true
		}
	}
	return false
}

// masquerade is what the rules of one attachment follow from.
type masquerade struct {
	network, uuid, device string
	addresses             []netip.Prefix
	backend               string // what makes the rules
}

func (a *attachment) masquerade(uuid string) (masquerade, error) {
	m := masquerade{network: a.list.Name, uuid: uuid, device: a.Interface, backend: netfilter.IPTables}
	for _, plugin := range a.list.Plugins {
		if by, err := backend(plugin); err == nil && optionsOf(plugin).Masquerade {
			m.backend = by
		}
	}
	if a.Result == nil {
		return m, nil
	}
	var err error
	m.addresses, err = a.prefixes()
	return m, err
}

// prefixes are the addresses that the network has given the pod, with the lengths of their subnets.
func (a *attachment) prefixes() (prefixes []netip.Prefix, err error) {
	last, err := a.lastResult()
	if err != nil {
		return nil, err
	}
	result, err := current.NewResultFromResult(last)
	if err != nil {
		return nil, err
	}
	for _, ip := range result.IPs {
		prefix, err := netip.ParsePrefix(ip.Address.String())
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}

// chain is the one that iptables' rules are in.
func (m masquerade) chain() string {
	return fmt.Sprintf("CNI-%x", sha512.Sum512([]byte(m.network+m.uuid)))[:28]
}

// comment is that of iptables' rules, as iptables-save writes it.
func (m masquerade) comment() string {
	return fmt.Sprintf(`--comment "name: \"%s\" id: \"%s\""`, m.network, m.uuid)
}

// mark is what the comments of nftables' rules begin with.
func (m masquerade) mark() string {
	hash := func(s string) string { return fmt.Sprintf("%x", sha512.Sum512([]byte(s)))[:16] }
	return hash(m.network) + "-" + hash(m.device+":"+m.uuid)
}

// The table and the chain of nftables' rules.
const masqueradeTable, masqueradeChain = "inet cni_plugins_masquerade", "masq_checks"

// missing is an address that is not masqueraded, if there is one.
func (m masquerade) missing(ctx context.Context) (netip.Addr, error) {
	saved := map[bool]string{}
	for _, family := range []string{"iptables", "ip6tables"} {
		is4 := family == "iptables"
		text, err := saveNAT(ctx, family)
		if err != nil {
			return netip.Addr{}, err
		}
		saved[is4] = text
	}
	byNFT := m.listNFT(ctx)
	for _, address := range m.addresses {
		if !m.inTables(saved[address.Addr().Is4()], address.Addr()) && !m.inNFT(byNFT, address.Addr()) {
			return address.Addr(), nil
		}
	}
	return netip.Addr{}, nil
}

// saveNAT is the nat table as iptables-save prints it; "" where the program is not there.
func saveNAT(ctx context.Context, family string) (string, error) {
	save := netfilter.Program(family + "-save")
	if save == "" {
		return "", nil
	}
	text, err := netfilter.Output(exec.CommandContext(ctx, save, "-t", "nat"))
	return string(text), err
}

// inTables reports whether the rules of an address are in a nat table: one that leads to the chain,
// and the one there.
func (m masquerade) inTables(saved string, address netip.Addr) bool {
	jumps, masquerades := false, false
	for line := range strings.Lines(saved) {
		if !strings.Contains(line, m.comment()) {
			continue
		}
		jumps = jumps || strings.HasPrefix(line, m.jump(address))
		inChain := strings.HasPrefix(line, "-A "+m.chain()+" ")
		masquerades = masquerades || inChain && strings.Contains(line, "-j MASQUERADE")
	}
	return jumps && masquerades
}

func (m masquerade) jump(address netip.Addr) string {
	return fmt.Sprintf("-A POSTROUTING -s %s/%d ", address, address.BitLen())
}

// listNFT are nftables' rules; "" where nft or they are not there.
func (m masquerade) listNFT(ctx context.Context) string {
	nft := netfilter.Program("nft")
	if nft == "" {
		return ""
	}
	out, _ := exec.CommandContext(ctx, nft, strings.Fields("--handle list table "+masqueradeTable)...).Output()
	return string(out)
}

func (m masquerade) inNFT(listed string, address netip.Addr) bool {
	parts := []string{"goto " + masqueradeChain, "saddr " + address.String() + " ", `comment "` + m.mark()}
	for _, part := range parts {
		if !strings.Contains(listed, part) {
			return false
		}
	}
	return true
}

// put makes the rules that are missing.
func (m masquerade) put(ctx context.Context) error {
	missing, err := m.missing(ctx)
	if err != nil || !missing.IsValid() {
		return err
	}
	if m.backend == netfilter.NFTables {
		return netfilter.RunNFT(ctx, m.removeNFT(m.listNFT(ctx))+m.scriptNFT())
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		is4 := family == "iptables"
		if err := changeTable(ctx, family, func(saved string) string { return m.script(saved, is4) }); err != nil {
			return err
		}
	}
	return nil
}

// script makes input for iptables-restore that makes the rules of one family, "" if there are none
// to make.
func (m masquerade) script(saved string, is4 bool) string {
	multicast := map[bool]string{true: "224.0.0.0/4", false: "ff00::/8"}[is4]
	var chain, jumps strings.Builder
	for _, address := range m.addresses {
		if address.Addr().Is4() != is4 {
			continue
		}
		fmt.Fprintf(&chain, "-A %s -d %s -m comment %s -j ACCEPT\n", m.chain(), address.Masked(), m.comment())
		rule := fmt.Sprintf("%s-m comment %s -j %s\n", m.jump(address.Addr()), m.comment(), m.chain())
		if !strings.Contains(saved, rule) {
			jumps.WriteString(rule)
		}
	}
	if chain.Len() == 0 {
		return ""
	}
	fmt.Fprintf(&chain, "-A %s ! -d %s -m comment %s -j MASQUERADE\n", m.chain(), multicast, m.comment())
	declared := ":" + m.chain() + " - [0:0]\n" // which empties the chain, if it is there
	return "*nat\n" + declared + chain.String() + jumps.String() + "COMMIT\n"
}

// scriptNFT makes input for nft that makes the rules.
func (m masquerade) scriptNFT() string {
	script := fmt.Sprintf(`table %[1]s {
	chain %[2]s { }
	chain postrouting { type nat hook postrouting priority srcnat; }
}
flush chain %[1]s postrouting
add rule %[1]s postrouting ip daddr 224.0.0.0/4 return
add rule %[1]s postrouting ip6 daddr ff00::/8 return
add rule %[1]s postrouting goto %[2]s
`, masqueradeTable, masqueradeChain)
	for _, address := range m.addresses {
		family := map[bool]string{true: "ip", false: "ip6"}[address.Addr().Is4()]
		comment := fmt.Sprintf("%s, net: %.20s, if: %s, id: %s", m.mark(), m.network, m.device, m.uuid)
		script += fmt.Sprintf("add rule %s %s %s saddr %s %[3]s daddr != %[5]s masquerade comment %[6]q\n",
			masqueradeTable, masqueradeChain, family, address.Addr(), address.Masked(), comment)
	}
	return script
}

// removeNFT makes input for nft that removes the rules from a table that nft has listed with
// handles.
func (m masquerade) removeNFT(listed string) (script string) {
	for line := range strings.Lines(listed) {
		_, handle, ok := strings.Cut(strings.TrimSpace(line), " # handle ")
		if ok && strings.Contains(line, `comment "`+m.mark()) {
			script += fmt.Sprintf("delete rule %s %s handle %s\n", masqueradeTable, masqueradeChain, handle)
		}
	}
	return script
}

// remove removes the rules, and iptables' chain. None is success.
func (m masquerade) remove(ctx context.Context) error {
	var errs []error
	if script := m.removeNFT(m.listNFT(ctx)); script != "" {
		errs = append(errs, netfilter.RunNFT(ctx, script))
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		errs = append(errs, changeTable(ctx, family, m.undoScript))
	}
	errs = append(errs, m.unreachable(ctx))
	if err := oneLine(errs); err != nil {
		return fmt.Errorf("rules of masquerading: %w", err)
	}
	return nil
}

// unreachable is an error if there may be rules for which the program has been taken from the host
// meanwhile.
func (m masquerade) unreachable(ctx context.Context) error {
	missing := missingProgram(m.backend)
	if missing == nil {
		return nil
	}
	missing = fmt.Errorf("removing them %w", missing)
	if m.backend == netfilter.NFTables {
		return missing
	}
	legacy, _ := os.ReadFile("/proc/net/ip_tables_names") // the tables that iptables-legacy has ever used
	if nft := netfilter.Program("nft"); nft != "" && !strings.Contains(string(legacy), "nat\n") {
		listed, err := netfilter.Output(exec.CommandContext(ctx, nft, "list", "ruleset")) // those of iptables-nft too
		if err != nil || !strings.Contains(string(listed), m.uuid) {
			return err
		}
	}
	return missing
}

// undoScript makes input for iptables-restore that removes, from the nat table that iptables-save
// printed, the rules and the chain that the CNI plugins made for one pod in one network; "" if
// there are none.
func (m masquerade) undoScript(saved string) string {
	var rules, chains strings.Builder
	for line := range strings.Lines(saved) {
		if rule, ok := strings.CutPrefix(line, "-A POSTROUTING "); ok && strings.Contains(rule, m.comment()) {
			rules.WriteString("-D POSTROUTING " + rule)
		}
		if strings.HasPrefix(line, ":"+m.chain()+" ") {
			fmt.Fprintf(&chains, "-F %[1]s\n-X %[1]s\n", m.chain())
		}
	}
	if rules.Len()+chains.Len() == 0 {
		return ""
	}
	return "*nat\n" + rules.String() + chains.String() + "COMMIT\n"
}
