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
