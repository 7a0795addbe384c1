// Package network is the networks a pod can join: the grammar of --net, the configuration files in
// net.d, and the files that rkt-net keeps under a pod's net/. It calls no plugin; package cni does.
package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Names with a meaning of their own in --net.
const (
	Host    = "host"    // the host's own network, no namespace
	None    = "none"    // a namespace with nothing but lo
	All     = "all"     // every network there is
	Default = "default" // what is taken when nothing is said

	restricted = "default-restricted"
)

// aliasKey is the argument of a network that is not for its plugins.
const aliasKey = "alias"

// Request is one network of --net.
type Request struct {
	Name string // a network's name, or the plugin type of one
	Args string // KEY=VALUE;KEY=VALUE, handed to the plugins as CNI_ARGS

	Aliases []string // names of the pod on this network: alias=NAME among the arguments, which no plugin sees
}

func (r Request) String() string {
	args := r.Args
	for _, alias := range r.Aliases {
		args += ";" + aliasKey + "=" + alias
	}
	if args == "" {
		return r.Name
	}
	return r.Name + ":" + strings.TrimPrefix(args, ";")
}

// Selection is the value of --net, in rkt's grammar: n1,n2:KEY=VALUE;KEY=VALUE. It is a flag.Value,
// to be given any number of times, with --net alone for the default network. The empty Selection
// means the default network too.
type Selection []Request

// Set adds the networks of one --net.
func (s *Selection) Set(value string) error {
	if value == "true" { // what package flag makes of --net alone
		value = Default
	}
	all := *s
	for item := range strings.SplitSeq(value, ",") {
		request, err := parseRequest(item)
		if err != nil {
			return err
		}
		for _, other := range all {
			if other.Name == request.Name {
				return fmt.Errorf("network %q is there twice", request.Name)
			}
		}
		all = append(all, request)
	}
	if (all.has(Host) || all.has(None)) && len(all) > 1 {
		return errors.New(`"host" and "none" stand alone`)
	}
	*s = all
	return nil
}

// IsBoolFlag lets --net stand without a value, as rkt had it. See flag.Value.
func (s *Selection) IsBoolFlag() bool { return true }

// String is the Selection as one --net.
func (s *Selection) String() string {
	if s == nil {
		return ""
	}
	var items []string
	for _, r := range *s {
		items = append(items, r.String())
	}
	return strings.Join(items, ",")
}

// Host reports whether the pod is to have the host's network.
func (s Selection) Host() bool { return s.has(Host) }

// None reports whether the pod is to have a namespace without networks.
func (s Selection) None() bool { return s.has(None) }

func (s Selection) has(name string) bool {
	for _, r := range s {
		if r.Name == name {
			return true
		}
	}
	return false
}

func parseRequest(item string) (Request, error) {
	name, args, _ := strings.Cut(item, ":")
	if !validName(name) {
		return Request{}, fmt.Errorf("%q is not a network's name", name)
	}
	if args == "" {
		return Request{Name: name}, nil
	}
	if name == Host || name == None || name == All {
		return Request{}, fmt.Errorf("%q takes no arguments", name)
	}
	request, given, plain := Request{Name: name}, map[string]bool{}, []string{}
	for arg := range strings.SplitSeq(args, ";") {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || !validKey(key) || strings.ContainsFunc(value, unprintable) {
			return Request{}, fmt.Errorf("network %q: %q is not KEY=VALUE", name, arg)
		}
		if key == aliasKey {
			if err := checkAlias(value); err != nil {
				return Request{}, fmt.Errorf("network %q: %s=%w", name, aliasKey, err)
			}
			request.Aliases = append(request.Aliases, value)
			continue
		}
		if given[key] {
			return Request{}, fmt.Errorf("network %q: %s is given twice", name, key)
		}
		given[key], plain = true, append(plain, arg)
		if address, _, _ := strings.Cut(value, "/"); key == "IP" {
			if _, err := netip.ParseAddr(address); err != nil {
				return Request{}, fmt.Errorf("network %q: %q is not an IP address", name, value)
			}
		}
	}
	request.Args = strings.Join(plain, ";")
	return request, nil
}

// validName reports whether s may name a network (CNI specification, section 1).
func validName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return s != ""
}

func validKey(s string) bool {
	for i := range len(s) {
		if !alphanumeric(s[i]) && s[i] != '_' {
			return false
		}
	}
	return s != ""
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func unprintable(r rune) bool { return r < ' ' || r == 0x7f }
