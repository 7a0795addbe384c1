package netfilter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

// RunNFT has nft execute a script, all of it or nothing.
func RunNFT(ctx context.Context, script string) error {
	nft := Program("nft")
	if nft == "" {
		return errors.New("needs nft, which is not in $PATH (Debian package nftables)")
	}
	cmd := exec.CommandContext(ctx, nft, "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	_, err := Output(cmd)
	return err
}

// NFTRule is a rule of nftables.
type NFTRule struct {
	Family, Table, Chain, Comment string
	Handle                        int

	statements []statement
}

// statement is a match or a verdict of a rule, as far as it is looked at here
// (libnftables-json(5)).
type statement struct {
	Match *struct {
		Op   string `json:"op"`
		Left struct {
			Payload struct{ Protocol, Field string }
			Meta    struct{ Key string }
		} `json:"left"`
		Right json.RawMessage `json:"right"`
	} `json:"match"`
	DNAT *struct {
		Addr json.RawMessage `json:"addr"`
		Port json.RawMessage `json:"port"`
	} `json:"dnat"`
	Jump *struct{ Target string } `json:"jump"`
}

// NFTRules lists the rules of a table ("ip cni_hostport"), or of all tables for "". A table that is
// not there, and a host without nft, have none. Rules of iptables-nft are among them, without what
// they do.
func NFTRules(ctx context.Context, table string) ([]NFTRule, error) {
	nft := Program("nft")
	if nft == "" {
		return nil, nil
	}
	args := []string{"--json", "--handle", "list", "ruleset"}
	if table != "" {
		args = append(args[:3], append([]string{"table"}, strings.Fields(table)...)...)
	}
	out, err := Output(exec.CommandContext(ctx, nft, args...))
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil && table != "" && strings.Contains(err.Error(), "No such file or directory") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseNFT(out)
}

// parseNFT reads what "nft --json list" prints. A statement that is not known here is skipped.
func parseNFT(text []byte) (rules []NFTRule, err error) {
	var listed struct {
		NFTables []struct {
			Rule *struct {
				Family, Table, Chain, Comment string
				Handle                        int
				Expr                          []json.RawMessage
			} `json:"rule"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(text, &listed); err != nil {
		return nil, fmt.Errorf("nft --json list: %w", err)
	}
	for _, object := range listed.NFTables {
		if object.Rule == nil {
			continue
		}
		r := NFTRule{Family: object.Rule.Family, Table: object.Rule.Table, Chain: object.Rule.Chain,
			Comment: object.Rule.Comment, Handle: object.Rule.Handle}
		for _, text := range object.Rule.Expr {
			var s statement
			if json.Unmarshal(text, &s) == nil {
				r.statements = append(r.statements, s)
			}
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// Delete is the line of a script that removes the rule.
func (r NFTRule) Delete() string {
	return fmt.Sprintf("delete rule %s %s %s handle %d\n", r.Family, r.Table, r.Chain, r.Handle)
}

// Jumps reports whether the rule leads to another chain.
func (r NFTRule) Jumps() bool {
	for _, s := range r.statements {
		if s.Jump != nil {
			return true
		}
	}
	return false
}

// Forward is a rule that sends ports of the host elsewhere, whoever calls them.
type Forward struct {
	Protocol    string
	Address     string // of the host; "" for all
	First, Last int
	To          string // ADDRESS:PORT, as far as it is one
}

// Forwards are the ports that the rule sends elsewhere. Those of a rule for some callers only are
// not among them.
func (r NFTRule) Forwards() (all []Forward) {
	f := Forward{}
	var ports [][2]int
	for _, s := range r.statements {
		if s.DNAT != nil {
			f.To = target(s.DNAT.Addr, s.DNAT.Port)
			for _, p := range ports {
				f.First, f.Last = p[0], p[1]
				all = append(all, f)
			}
			return all
		}
		if s.Match == nil {
			continue
		}
		payload, equal := s.Match.Left.Payload, s.Match.Op == "==" || s.Match.Op == "in"
		switch {
		case payload.Field == "dport" && equal:
			f.Protocol, ports = payload.Protocol, numbers(s.Match.Right)
		case payload.Field == "dport" || payload.Field == "saddr" || strings.HasPrefix(s.Match.Left.Meta.Key, "iif"):
			return nil
		case payload.Field == "daddr" && equal:
			f.Address = word(s.Match.Right)
		}
	}
	return nil
}

// target is where a dnat statement leads to.
func target(address, port json.RawMessage) string {
	to, number := word(address), word(port)
	if ip, err := netip.ParseAddr(to); err == nil && ip.Is6() {
		to = "[" + to + "]"
	}
	if number != "" {
		to += ":" + number
	}
	return to
}

// word is a JSON string or number; "" for anything else.
func word(text json.RawMessage) string {
	var s string
	var n json.Number
	if json.Unmarshal(text, &s) == nil {
		return s
	}
	if json.Unmarshal(text, &n) == nil {
		return n.String()
	}
	return ""
}

// numbers are the ranges of port numbers in a number, a range, or a set of these.
func numbers(text json.RawMessage) (all [][2]int) {
	var n uint16
	if json.Unmarshal(text, &n) == nil {
		return [][2]int{{int(n), int(n)}}
	}
	var compound struct {
		Range []uint16          `json:"range"`
		Set   []json.RawMessage `json:"set"`
	}
	if json.Unmarshal(text, &compound) != nil {
		return nil
	}
	if len(compound.Range) == 2 {
		return [][2]int{{int(compound.Range[0]), int(compound.Range[1])}}
	}
	for _, element := range compound.Set {
		all = append(all, numbers(element)...)
	}
	return all
}
