// Package netfilter speaks to the host's packet filter, by iptables or, where that is not there, by
// nft (see Backend), and owns the guard,
// which is rkt's own: two rules that keep what arrives from pods away from the host's loopback
// addresses. All other rules are made by CNI plugins.
//
// To let a connection to a forwarded port of 127.0.0.1 reach the pod, portmap sets route_localnet
// of the interface that leads there. From then on the kernel takes packets to and from 127.0.0.0/8
// from that interface too. A frame of the pod's reaches whatever listens on the host's 127.0.0.1,
// and, where rp_filter is off, passes as one of the host's own. The guard drops every packet to or
// from 127.0.0.0/8 that has not come by lo, before anything else looks at it. IPv6 needs none: the
// kernel takes packets to and from ::1 from lo only.
//
// The guard is one for all pods, and is needed as long as any interface has route_localnet set:
// that outlives a pod on a bridge or in the LAN of the host. So whether it may go follows from the
// interfaces alone, and nothing has to be recorded.
package netfilter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/program"
)

// Program finds a program where the plugins find it; "" if it is not there.
func Program(name string) string {
	path, err := program.Look(name)
	if err != nil {
		return ""
	}
	return path
}

// What rules of the host are made by, as plugins name it in their configuration.
const (
	IPTables = "iptables" // iptables-nft or iptables-legacy, whichever the host calls iptables
	NFTables = "nftables"
)

// Backend is what the host's rules are to be made by where nothing else is said: IPTables where the
// host has it, as CNI plugins choose, else NFTables. The error, for a host with neither, names the
// packages.
func Backend() (string, error) {
	switch {
	case Program("iptables") != "":
		return IPTables, nil
	case Program("nft") != "":
		return NFTables, nil
	}
	return "", errors.New("needs iptables or nft, and neither is in $PATH (Debian packages iptables, nftables)")
}

// Output runs cmd; its error has what the program wrote to stderr.
func Output(cmd *exec.Cmd) ([]byte, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", cmd.Path, err, bytes.Join(bytes.Fields(stderr.Bytes()), []byte(" ")))
	}
	return out, nil
}

// lockPath is locked shared by each program that is about to set route_localnet, from before the
// guard is made until the plugin has ended, and exclusively by the one that removes it. It is under
// /run because the guard is gone with a reboot.
const lockPath = "/run/rkt/loopback"

// comment is how the rules are told from others.
const comment = "rkt: the host's loopback is not for pods"

// table is that of nft's which holds nothing but the guard.
const table = "rkt_loopback"

// Guard makes the guard if it is not there, whole. A plugin may set route_localnet as long as it,
// or the caller, holds the lock that is returned.
func Guard(ctx context.Context) (*os.File, error) {
	if err := os.MkdirAll(lockPath, 0o755); err != nil {
		return nil, err
	}
	lock, err := durable.Share(lockPath)
	if err != nil {
		return nil, err
	}
	guarded, err := Guarded(ctx)
	if err == nil && !guarded {
		err = add(ctx)
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("the rules that keep pods from the host's 127.0.0.0/8: %w", err)
	}
	return lock, nil
}

// Guarded reports whether the guard is there, whole.
func Guarded(ctx context.Context) (bool, error) {
	if iptables := Program("iptables"); iptables != "" && has(ctx, iptables, "-d") && has(ctx, iptables, "-s") {
		return true, nil
	}
	if nft := Program("nft"); nft != "" {
		out, err := exec.CommandContext(ctx, nft, "list", "chain", "ip", table, "prerouting").Output()
		if err == nil && strings.Count(string(out), comment) == 2 {
			return true, nil
		}
	}
	return false, context.Cause(ctx)
}

// rule are the arguments of iptables for one of the two rules: for the destination of packets, -d,
// or for their source, -s. The table raw comes before connection tracking, where packets have the
// addresses that they had on the wire: the answers to the host's own connections from 127.0.0.1
// have another one there.
func rule(command, which string) []string {
	return []string{"--wait", "-t", "raw", command, "PREROUTING", "!", "-i", "lo", which, "127.0.0.0/8",
		"-m", "comment", "--comment", comment, "-j", "DROP"}
}

func has(ctx context.Context, iptables, which string) bool {
	return exec.CommandContext(ctx, iptables, rule("-C", which)...).Run() == nil
}

func add(ctx context.Context) error {
	backend, err := Backend()
	if err != nil {
		return fmt.Errorf("making them %w", err)
	}
	if backend == NFTables {
		return RunNFT(ctx, fmt.Sprintf(`table ip %[1]s
delete table ip %[1]s
table ip %[1]s {
	chain prerouting {
		type filter hook prerouting priority raw
		iifname != "lo" ip daddr 127.0.0.0/8 drop comment "%[2]s"
		iifname != "lo" ip saddr 127.0.0.0/8 drop comment "%[2]s"
	}
}
`, table, comment))
	}
	iptables := Program("iptables")
	for _, which := range []string{"-d", "-s"} {
		if has(ctx, iptables, which) {
			continue
		}
		if _, err := Output(exec.CommandContext(ctx, iptables, rule("-I", which)...)); err != nil {
			return err
		}
	}
	return nil
}

// Release removes the guard, if no interface needs it any more and nobody is about to make one that
// does. None is success.
func Release(ctx context.Context) error {
	lock, err := durable.Lock(lockPath, 0)
	if errors.Is(err, durable.ErrLocked) || errors.Is(err, fs.ErrNotExist) {
		return nil // one is about to need it, and removes it later; nobody has ever made it
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	open, err := open()
	if err != nil || len(open) > 0 {
		return err
	}
	if iptables := Program("iptables"); iptables != "" {
		for _, which := range []string{"-d", "-s"} {
			for has(ctx, iptables, which) { // two that came at once have made it twice
				if _, err := Output(exec.CommandContext(ctx, iptables, rule("-D", which)...)); err != nil {
					return err
				}
			}
		}
	}
	if nft := Program("nft"); nft != "" && exec.CommandContext(ctx, nft, "list", "table", "ip", table).Run() == nil {
		return RunNFT(ctx, "delete table ip "+table+"\n")
	}
	return nil
}

// open are the interfaces from which the kernel takes packets to 127.0.0.0/8. "all" and "default"
// are no interfaces: no plugin sets theirs.
func open() ([]string, error) {
	const conf = "/proc/sys/net/ipv4/conf"
	entries, err := os.ReadDir(conf)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if slices.Contains([]string{"all", "default", "lo"}, name) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(conf, name, "route_localnet"))
		if err == nil && strings.TrimSpace(string(text)) != "0" { // an error: the interface has gone meanwhile
			names = append(names, name)
		}
	}
	return names, nil
}
