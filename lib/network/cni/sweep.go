package cni

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/durable"
)

// What plugins leave behind when they, or their DEL, are killed, and what proves that it is nobody else's.

// sweepMasquerade removes the pod's iptables rules of one network. The plugins remove them only together with the interface: a
// DEL that was killed in between, or a namespace that is gone, leaves them. They carry the pod's UUID in a comment.
func sweepMasquerade(ctx context.Context, uuid string, a *attachment) error {
	used := false
	for _, plugin := range a.list.Plugins {
		used = used || optionsOf(plugin).iptables()
	}
	if !used {
		return nil
	}
	var errs []error
	for _, family := range []string{"iptables", "ip6tables"} {
		if err := sweepTable(ctx, family, uuid, a.list.Name); err != nil {
			errs = append(errs, fmt.Errorf("rules of masquerading: %w", err))
		}
	}
	return oneLine(errs)
}

func sweepTable(ctx context.Context, family, uuid, name string) error {
	save, restore := lookSystem(family+"-save"), lookSystem(family+"-restore")
	if save == "" || restore == "" {
		if family == "iptables" {
			return fmt.Errorf("%s-save: not found in $PATH (Debian package iptables)", family)
		}
		return nil
	}
	rules, err := output(exec.CommandContext(ctx, save, "-t", "nat"))
	if err != nil {
		return err
	}
	script := undoScript(string(rules), uuid, name)
	if script == "" {
		return nil
	}
	cmd := exec.CommandContext(ctx, restore, "--wait", "--noflush")
	cmd.Stdin = strings.NewReader(script)
	_, err = output(cmd)
	return err
}

func output(cmd *exec.Cmd) ([]byte, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", cmd.Path, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// undoScript makes input for iptables-restore that removes, from the nat table that iptables-save printed, the rules and the
// chain that the CNI plugins made for one pod in one network; "" if there are none.
func undoScript(saved, uuid, name string) string {
	chain := fmt.Sprintf("CNI-%x", sha512.Sum512([]byte(name+uuid)))[:28]
	comment := fmt.Sprintf(`--comment "name: \"%s\" id: \"%s\""`, name, uuid)
	var rules, chains strings.Builder
	for line := range strings.Lines(saved) {
		if rule, ok := strings.CutPrefix(line, "-A POSTROUTING "); ok && strings.Contains(rule, comment) {
			rules.WriteString("-D POSTROUTING " + rule)
		}
		if strings.HasPrefix(line, ":"+chain+" ") {
			fmt.Fprintf(&chains, "-F %[1]s\n-X %[1]s\n", chain)
		}
	}
	if rules.Len()+chains.Len() == 0 {
		return ""
	}
	return "*nat\n" + rules.String() + chains.String() + "COMMIT\n"
}

// hostLocalDir is where host-local keeps its reservations.
const hostLocalDir = "/var/lib/cni/networks"

// sweepReservations removes the reservations that a killed host-local has made but not filled in, which no DEL ever releases.
// host-local makes and fills one while it holds its lock: what is empty under that lock is nobody's.
func sweepReservations(a *attachment) error {
	var errs []error
	for _, plugin := range a.list.Plugins {
		ipam := optionsOf(plugin).IPAM
		if ipam.Type != "host-local" {
			continue
		}
		dir := ipam.DataDir
		if dir == "" {
			dir = hostLocalDir
		}
		if err := sweepDir(filepath.Join(dir, a.list.Name)); err != nil {
			errs = append(errs, fmt.Errorf("reservations of host-local: %w", err))
		}
	}
	return oneLine(errs)
}

func sweepDir(dir string) error {
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
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
			errs = append(errs, remove(filepath.Join(dir, e.Name())))
		}
	}
	return oneLine(errs)
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

// sweepShared removes the chains that a network's plugins have made for all pods, if no pod, of whatever program, uses them any
// more. A plugin of the toolkit's that is about to use them holds a lock; the kernel refuses to remove a chain that has come to use
// otherwise, and then nothing is changed.
func sweepShared(ctx context.Context, a *attachment) error {
	chains := map[string][]sharedChain{}
	for _, plugin := range a.list.Plugins {
		for _, c := range shared[plugin.Network.Type] {
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
			save, restore := lookSystem(family+"-save"), lookSystem(family+"-restore")
			if save == "" || restore == "" {
				continue
			}
			rules, err := output(exec.CommandContext(ctx, save, "-t", table))
			if err != nil {
				return err
			}
			script := sharedScript(string(rules), table, chains)
			if script == "" {
				continue
			}
			cmd := exec.CommandContext(ctx, restore, "--wait", "--noflush")
			cmd.Stdin = strings.NewReader(script)
			if _, err := output(cmd); err != nil && ctx.Err() != nil {
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
