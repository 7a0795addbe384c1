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

// What plugins leave behind when they, or their DEL, are killed, and what proves that it is nobody
// else's.

// changeTable gives the nat table as FAMILY-save prints it to script, and what that makes of it to
// FAMILY-restore. Where iptables is not there, it has made no rules.
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

// sweepReservations removes the reservations that a killed host-local has made but not filled in,
// which no DEL ever releases. host-local makes and fills one while it holds its lock: what is empty
// under that lock is nobody's.
func sweepReservations(a *attachment) error {
	var errs []error
	for _, dir := range a.reservations() {
		if err := sweepDir(dir, func(text string) bool { return text == "" }); err != nil {
			errs = append(errs, fmt.Errorf("reservations of host-local: %w", err))
		}
	}
	return oneLine(errs)
}

// reservations are the directories in which host-local keeps those of a network.
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

// reclaim takes a network's addresses back from pods of the same data directory that have no use
// for them: those that have exited, and those whose namespace a reboot has taken. It reports
// whether there were any.
func (a *Attacher) reclaim(ctx context.Context, in *attachment) (freed bool) {
	for _, dir := range in.reservations() {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if _, err := netip.ParseAddr(e.Name()); err != nil {
				continue
			}
			text, _ := poddir.ReadBelow(dir, e.Name())
			uuid := reservedBy(string(text))
			if !poddir.ValidUUID(uuid) || uuid == a.pod.UUID {
				continue
			}
			other, err := poddir.In(a.pod.DataDir()).Find(uuid, "")
			if err != nil {
				continue
			}
			if released, err := New(other, a.Options).releaseExited(ctx); err == nil && released {
				freed = true
			} else if !netns.Pinned(uuid) &&
				sweepDir(dir, func(text string) bool { return reservedBy(text) == uuid }) == nil {
				freed = true
			}
		}
	}
	return freed
}

// addressHolder finds the pod that has the address which a user asks for by IP=, if it is another.
func (a *Attacher) addressHolder(to *attachment) *poddir.Pod {
	for arg := range strings.SplitSeq(to.Args, ";") {
		address, ok := strings.CutPrefix(arg, "IP=")
		if !ok || strings.Contains(address, "..") {
			continue
		}
		address, _, _ = strings.Cut(address, "/")
		for _, dir := range to.reservations() {
			text, _ := poddir.ReadBelow(dir, address)
			uuid := reservedBy(string(text))
			if !poddir.ValidUUID(uuid) || uuid == a.pod.UUID {
				continue
			}
			if holder, err := poddir.In(a.pod.DataDir()).Find(uuid, ""); err == nil {
				return holder
			}
		}
	}
	return nil
}

// sweepDir removes the reservations in one of host-local's directories whose text is nobody's.
func sweepDir(dir string, nobodys func(text string) bool) error {
	lock, err := durable.Lock(filepath.Join(dir, "lock"), lockTimeout)
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
	errs = append(errs, sweepNFT(ctx, uuid))
	directories, err := filepath.Glob(hostLocalDir + "/*")
	errs = append(errs, err)
	for _, dir := range directories {
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

// orphanScript makes input for iptables-restore that removes, from the nat table that iptables-save
// printed, every rule that carries a pod's UUID, and the chains that only those lead to; "" if
// there are none.
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
