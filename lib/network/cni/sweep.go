package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/netns"
	"github.com/rkt-toolkit/rkt/lib/network/netfilter"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// What plugins leave behind when they, or their DEL, are killed, and what proves that it is nobody else's.

// changeTable gives the nat table as FAMILY-save prints it to script, and what that makes of it to FAMILY-restore. Where iptables is
// not there, it has made no rules.
func changeTable(ctx context.Context, family string, script func(rules string) string) error {
	restore := netfilter.Program(family + "-restore")
	saved, err := saveNAT(ctx, family)
	if err != nil || restore == "" {
		return err
	}
	input := script(saved)
	if input == "" {
		return nil
	}
	cmd := exec.CommandContext(ctx, restore, "--wait", "--noflush")
	cmd.Stdin = strings.NewReader(input)
	_, err = netfilter.Output(cmd)
	return err
}

// hostLocalDir is where host-local keeps its reservations.
const hostLocalDir = "/var/lib/cni/networks"

// sweepReservations removes the reservations that a killed host-local has made but not filled in, which no DEL ever releases.
// host-local makes and fills one while it holds its lock: what is empty under that lock is nobody's.
func sweepReservations(a *attachment) error {
	var errs []error
	for _, dir := range a.reservations() {
		if err := sweepDir(dir, func(text string) bool { return text == "" }); err != nil {
			errs = append(errs, fmt.Errorf("reservations of host-local: %w", err))
		}
	}
	return oneLine(errs)
}

// reservations are the folders in which host-local keeps those of a network.
func (a *attachment) reservations() (dirs []string) {
	for _, plugin := range a.list.Plugins {
		ipam := optionsOf(plugin).IPAM
		if ipam.Type != "host-local" {
			continue
		}
		dir := ipam.DataDir
		if dir == "" {
			dir = hostLocalDir
		}
		dirs = append(dirs, filepath.Join(dir, a.list.Name))
	}
	return dirs
}

// reclaim takes a network's addresses back from pods of p's data directory that have no use for them: those that have exited, and those
// whose namespace a reboot has taken. It tells whether there were any.
func (o Options) reclaim(ctx context.Context, p *poddir.Pod, a *attachment) (freed bool) {
	for _, dir := range a.reservations() {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if _, err := netip.ParseAddr(e.Name()); err != nil {
				continue
			}
			text, _ := poddir.ReadBelow(dir, e.Name())
			uuid := reservedBy(string(text))
			if !poddir.ValidUUID(uuid) || uuid == p.UUID {
				continue
			}
			other, err := poddir.In(p.DataDir()).Find(uuid, "")
			if err != nil {
				continue
			}
			if released, err := o.releaseExited(ctx, other); err == nil && released {
				freed = true
			} else if !netns.Pinned(uuid) && sweepDir(dir, func(text string) bool { return reservedBy(text) == uuid }) == nil {
				freed = true
			}
		}
	}
	return freed
}

// sweepDir removes the reservations in one of host-local's folders whose text is nobody's.
func sweepDir(dir string, nobodys func(text string) bool) error {
	lock, err := durable.Lock(filepath.Join(dir, "lock"), lockPatience)
	if errors.Is(err, fs.ErrNotExist) { // no host-local got as far as to make a reservation
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if _, err := netip.ParseAddr(e.Name()); err != nil {
			continue
		}
		if text, err := poddir.ReadBelow(dir, e.Name()); err == nil && nobodys(string(text)) {
			errs = append(errs, remove(filepath.Join(dir, e.Name())))
		}
	}
	return oneLine(errs)
}

// sweepPod takes away all that carries a pod's UUID.
func sweepPod(ctx context.Context, uuid string) error {
	var errs []error
	for _, family := range []string{"iptables", "ip6tables"} {
		errs = append(errs, changeTable(ctx, family, func(rules string) string { return orphanScript(rules, uuid) }))
	}
	errs = append(errs, sweepShared(ctx, portmap), sweepNFT(ctx, uuid))
	folders, err := filepath.Glob(hostLocalDir + "/*")
	errs = append(errs, err)
	for _, dir := range folders {
		errs = append(errs, sweepDir(dir, func(text string) bool { return reservedBy(text) == uuid }))
	}
	errs = append(errs, remove(filepath.Join(flannelDir, uuid)))
	return oneLine(append(errs, netns.Release(uuid), netfilter.Release(ctx)))
}

// sweepNFT removes the rules of nftables that carry a pod's UUID from the tables of portmap and of
// masquerading.
func sweepNFT(ctx context.Context, uuid string) error {
	script := ""
	for _, table := range append(slices.Clone(portTables), masqueradeTable) {
		rules, err := netfilter.NFTRules(ctx, table)
		if err != nil {
			return err
		}
		for _, rule := range rules {
			if rule.Comment == uuid || strings.HasSuffix(rule.Comment, ", id: "+uuid) {
				script += rule.Delete()
			}
		}
	}
	if script == "" {
		return nil
	}
	return netfilter.RunNFT(ctx, script)
}

// reservedBy is the container in one of host-local's reservations, whose first line it is.
func reservedBy(text string) string {
	id, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(id)
}

// orphanScript makes input for iptables-restore that removes, from the nat table that iptables-save printed, every rule that carries a pod's
// UUID, and the chains that only those lead to; "" if there are none.
func orphanScript(saved, uuid string) string {
	var rules, chains strings.Builder
	removed := map[string]bool{}
	for line := range strings.Lines(saved) {
		rule, ok := strings.CutPrefix(line, "-A ")
		if !ok || !strings.Contains(rule, fmt.Sprintf(`id: \"%s\""`, uuid)) {
			continue
		}
		rules.WriteString("-D " + rule)
		_, target, _ := strings.Cut(strings.TrimSpace(rule), " -j ")
		if chain, _, _ := strings.Cut(target, " "); strings.HasPrefix(chain, "CNI-") && !removed[chain] {
			removed[chain] = true // to which a rule of each protocol leads
			fmt.Fprintf(&chains, "-F %[1]s\n-X %[1]s\n", chain)
		}
	}
	if rules.Len() == 0 {
		return ""
	}
	return "*nat\n" + rules.String() + chains.String() + "COMMIT\n"
}

// sharedChain is a chain that a plugin makes once for all pods and never removes.
type sharedChain struct {
	table, name string
	keeps       []string // rules that are in it as long as the plugin has no pod: whatever else is in it is in use
}

// shared are the chains of each plugin's, by its type, in the order in which they can be removed.
var shared = map[string][]sharedChain{
	portmap: {
		{"nat", "CNI-HOSTPORT-DNAT", nil},
		{"nat", "CNI-HOSTPORT-MASQ", []string{"-j MASQUERADE"}},
		{"nat", "CNI-HOSTPORT-SETMARK", []string{"-j MARK --set-xmark"}},
	},
	"firewall": {
		{"filter", "CNI-FORWARD", []string{"-j CNI-ADMIN"}},
		{"filter", "CNI-ADMIN", nil},
	},
}

// usesShared tells whether a plugin has chains that sweepShared removes.
func usesShared(plugin string) bool { return shared[plugin] != nil }

// sweepShared removes the chains that plugins of the given types have made for all pods, if no pod, of whatever program, uses them any
// more. A plugin of the toolkit's that is about to use them holds a lock; the kernel refuses to remove a chain that has come to use
// otherwise, and then nothing is changed.
func sweepShared(ctx context.Context, plugins ...string) error {
	chains := map[string][]sharedChain{}
	for _, plugin := range plugins {
		for _, c := range shared[plugin] {
			chains[c.table] = append(chains[c.table], c)
		}
	}
	if len(chains) == 0 {
		return nil
	}
	if err := lockDir(chainsLock); err != nil {
		return err
	}
	lock, err := durable.Lock(chainsLock, lockPatience)
	if errors.Is(err, durable.ErrLocked) { // in use: the last one removes them
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	for table, chains := range chains {
		for _, family := range []string{"iptables", "ip6tables"} {
			save, restore := netfilter.Program(family+"-save"), netfilter.Program(family+"-restore")
			if save == "" || restore == "" {
				continue
			}
			rules, err := netfilter.Output(exec.CommandContext(ctx, save, "-t", table))
			if err != nil {
				return err
			}
			script := sharedScript(string(rules), table, chains)
			if script == "" {
				continue
			}
			cmd := exec.CommandContext(ctx, restore, "--wait", "--noflush")
			cmd.Stdin = strings.NewReader(script)
			if _, err := netfilter.Output(cmd); err != nil && ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// sharedScript makes input for iptables-restore that removes chains and the rules that lead to them, from what iptables-save
// printed; "" if they are not there or in use.
func sharedScript(saved, table string, chains []sharedChain) string {
	present := map[string]sharedChain{}
	for line := range strings.Lines(saved) {
		for _, c := range chains {
			if strings.HasPrefix(line, ":"+c.name+" ") {
				present[c.name] = c
			}
		}
	}
	var unlink, remove strings.Builder
	for line := range strings.Lines(saved) {
		rule, ok := strings.CutPrefix(line, "-A ")
		if !ok {
			continue
		}
		in, rest, _ := strings.Cut(strings.TrimSpace(rule), " ")
		if c, ours := present[in]; ours {
			if !slices.ContainsFunc(c.keeps, func(keep string) bool { return strings.Contains(rest, keep) }) {
				return ""
			}
			unlink.WriteString("-D " + rule) // no -F: the kernel refuses to remove a chain to which a rule was added just now
			continue
		}
		_, target, _ := strings.Cut(rest, "-j ")
		if name, _, _ := strings.Cut(target, " "); present[name].name != "" {
			if strings.HasPrefix(in, "CNI-") { // of a pod whose plugin was killed, and whose turn will come
				return ""
			}
			unlink.WriteString("-D " + rule)
		}
	}
	for _, c := range chains {
		if present[c.name].name != "" {
			fmt.Fprintf(&remove, "-X %s\n", c.name)
		}
	}
	if remove.Len() == 0 {
		return ""
	}
	return "*" + table + "\n" + unlink.String() + remove.String() + "COMMIT\n"
}
