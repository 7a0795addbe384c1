package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Names under a pod's net/ of the files by which its apps find names.
const (
	ResolvFile     = poddir.ResolvFile     // every app gets it as /etc/resolv.conf
	HostResolvFile = poddir.HostResolvFile // an app gets it whose image has none
	HostsFile      = poddir.HostsFile      // every app gets it as /etc/hosts
	HostHostsFile  = poddir.HostHostsFile  // every app gets the host's file, which is named here, as /etc/hosts
	ImageHostsFile = poddir.ImageHostsFile // every app keeps its image's /etc/hosts, without names of pods
)

// Names says how a pod's apps resolve names: --dns, --dns-search, --dns-opt, --dns-domain and
// --hosts-entry.
type Names struct {
	mode string // Host or None, if --dns was that
	dns  DNS

	hosts     []string // lines of /etc/hosts
	hostsFile bool     // the host's own come first
	imageFile bool     // nothing else than the image's

	Aliases []string // of the pod on each of its networks: --net-alias
}

// DNS is what a resolv.conf(5) says, and the "dns" of a CNI result.
type DNS struct {
	Nameservers []string `json:"nameservers"`
	Domain      string   `json:"domain"`
	Search      []string `json:"search"`
	Options     []string `json:"options"`
}

func (d DNS) empty() bool {
	return len(d.Nameservers)+len(d.Search)+len(d.Options) == 0 && d.Domain == ""
}

// text is the file. A search list is written last, since of it and the domain the last counts.
func (d DNS) text() string {
	var b strings.Builder
	for _, s := range d.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if d.Domain != "" {
		fmt.Fprintf(&b, "domain %s\n", d.Domain)
	}
	if len(d.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(d.Search, " "))
	}
	if len(d.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(d.Options, " "))
	}
	return b.String()
}

// SetServers takes one --dns: addresses, or host, or none.
func (n *Names) SetServers(value string) error {
	for item := range strings.SplitSeq(value, ",") {
		if item == Host || item == None {
			if n.mode != "" && n.mode != item {
				return errors.New(`"host" and "none" exclude each other`)
			}
			n.mode = item
			continue
		}
		ip, err := netip.ParseAddr(item)
		if err != nil {
			return fmt.Errorf("%q is not an IP address, nor host or none", item)
		}
		n.dns.Nameservers = append(n.dns.Nameservers, ip.String())
	}
	return n.contradiction()
}

// SetSearch takes one --dns-search.
func (n *Names) SetSearch(value string) error {
	for item := range strings.SplitSeq(value, ",") {
		if !ValidHost(item) {
			return fmt.Errorf("%q is not a domain", item)
		}
		n.dns.Search = append(n.dns.Search, item)
	}
	return n.contradiction()
}

// SetOption takes one --dns-opt.
func (n *Names) SetOption(value string) error {
	for item := range strings.SplitSeq(value, ",") {
		if item == "" || strings.ContainsFunc(item, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return fmt.Errorf("%q is not an option of resolv.conf(5)", item)
		}
		n.dns.Options = append(n.dns.Options, item)
	}
	return n.contradiction()
}

// SetDomain takes --dns-domain.
func (n *Names) SetDomain(value string) error {
	if !ValidHost(value) {
		return fmt.Errorf("%q is not a domain", value)
	}
	n.dns.Domain = value
	return n.contradiction()
}

func (n *Names) contradiction() error {
	if n.mode != "" && !n.dns.empty() {
		return fmt.Errorf("--dns=%s stands alone", n.mode)
	}
	return nil
}

// SetAlias takes one --net-alias.
func (n *Names) SetAlias(value string) error {
	for item := range strings.SplitSeq(value, ",") {
		if err := checkAlias(item); err != nil {
			return err
		}
		n.Aliases = append(n.Aliases, item)
	}
	return nil
}

// checkAlias returns an error if other pods can't call a pod so.
func checkAlias(name string) error {
	if _, err := netip.ParseAddr(name); err == nil || !ValidHost(name) || name == "localhost" {
		return fmt.Errorf("%q is not a host name", name)
	}
	return nil
}

// SetHosts takes one --hosts-entry: ADDRESS=NAME,… or host, or none.
func (n *Names) SetHosts(value string) (err error) {
	defer func() {
		if n.imageFile && (n.hostsFile || n.hosts != nil) {
			err = errors.New("--hosts-entry=none stands alone")
		}
	}()
	for item := range strings.SplitSeq(value, ",") {
		if item == None {
			n.imageFile = true
			continue
		}
		if item == Host {
			n.hostsFile = true
			continue
		}
		address, name, _ := strings.Cut(item, "=")
		ip, err := netip.ParseAddr(address)
		if err != nil || !ValidHost(name) {
			return fmt.Errorf("%q is not ADDRESS=NAME", item)
		}
		n.hosts = append(n.hosts, ip.WithZone("").String()+" "+name)
	}
	return nil
}

// ValidHost reports whether s can stand in resolv.conf and hosts. It is no more strict than
// resolvers are.
func ValidHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return s != "" && s[0] != '-' && len(s) <= 253
}

// HostHosts is the host's hosts(5).
const HostHosts = "/etc/hosts"

// Localhost are the lines that every /etc/hosts of the toolkit's starts with: rkt's names and
// Debian's.
const Localhost = "127.0.0.1 localhost localhost.domain localhost4 localhost4.localdomain4\n::1 localhost " +
	"ip6-localhost ip6-loopback\n"

// Files are the contents of ResolvFile, HostResolvFile and HostsFile for a pod with the given CNI
// results; one that is not there is not to be. In hostNetwork the pod reaches what listens on the
// host's loopback.
func (n *Names) Files(results [][]byte, hostNetwork bool) (map[string]string, error) {
	files := map[string]string{}
	host, err := hostResolv(hostNetwork)
	if err != nil {
		return nil, err
	}
	answer, err := resultDNS(results)
	if err != nil {
		return nil, err
	}
	switch {
	case n.mode == Host:
		if host == "" { // as it is, then: whatever it is good for
			if host, err = readResolv(resolvConf); err != nil {
				return nil, err
			}
		}
		files[ResolvFile] = host
	case !n.dns.empty():
		dns := n.dns
		if dns.Nameservers == nil { // a search list alone resolves nothing
			dns.Nameservers = answer.Nameservers
		}
		if dns.Nameservers == nil {
			dns.Nameservers = nameservers(host)
		}
		files[ResolvFile] = dns.text()
	case n.mode == None:
	case !answer.empty():
		files[ResolvFile] = answer.text()
	case host != "":
		files[HostResolvFile] = host
	}
	switch {
	case n.imageFile:
		files[ImageHostsFile] = ""
	case n.hostsFile && len(n.hosts) == 0: // as rkt did: the file itself, with what it says later
		files[HostHostsFile] = HostHosts + "\n"
	case n.hostsFile:
		text, err := os.ReadFile(HostHosts)
		if err != nil {
			return nil, fmt.Errorf("--hosts-entry=host: %w", err)
		}
		files[HostsFile] = strings.TrimRight(string(text), "\n") + "\n" + lines(n.hosts)
	case n.hosts != nil:
		files[HostsFile] = Localhost + lines(n.hosts)
	}
	return files, nil
}

func lines(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return strings.Join(list, "\n") + "\n"
}

// resultDNS is the DNS of the first network that says something of it. A plugin's words are checked
// as the user's are.
func resultDNS(results [][]byte) (DNS, error) {
	for _, text := range results {
		var result struct {
			DNS DNS `json:"dns"`
		}
		if err := json.Unmarshal(text, &result); err != nil {
			return DNS{}, fmt.Errorf("CNI result: %w", err)
		}
		if result.DNS.empty() {
			continue
		}
		var n Names
		for _, of := range []struct {
			list []string
			set  func(string) error
		}{{result.DNS.Nameservers, n.SetServers}, {result.DNS.Search, n.SetSearch}, {result.DNS.Options, n.SetOption}} {
			for _, item := range of.list {
				if err := of.set(item); err != nil {
					return DNS{}, fmt.Errorf("CNI result: dns: %w", err)
				}
			}
		}
		if result.DNS.Domain != "" {
			if err := n.SetDomain(result.DNS.Domain); err != nil {
				return DNS{}, fmt.Errorf("CNI result: dns: %w", err)
			}
		}
		if n.mode != "" {
			return DNS{}, fmt.Errorf("CNI result: dns: %q is not an IP address", n.mode)
		}
		return n.dns, nil
	}
	return DNS{}, nil
}

// resolvConf is the host's. Where it names a stub on the host's loopback, systemd-resolved has the
// servers after it in the other.
var resolvConf, resolvedConf = "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"

// hostResolv is the host's resolv.conf, without the servers that a pod in a network of its own
// can't reach; "" when none is left.
func hostResolv(hostNetwork bool) (string, error) {
	for _, file := range []string{resolvConf, resolvedConf} {
		text, err := readResolv(file)
		if err != nil {
			return "", err
		}
		if hostNetwork {
			return text, nil
		}
		var kept strings.Builder
		for line := range strings.Lines(text) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
				if ip, err := netip.ParseAddr(f[1]); err != nil || ip.Unmap().IsLoopback() || ip.IsUnspecified() {
					continue
				}
			}
			kept.WriteString(line)
		}
		if len(nameservers(kept.String())) > 0 {
			return kept.String(), nil
		}
	}
	return "", nil
}

// readResolv returns "" for a file that is not there.
func readResolv(file string) (string, error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxConfig) {
		err = fmt.Errorf("%s: not a file of at most %d bytes", file, maxConfig)
	}
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(file)
	return string(text), err
}

func nameservers(text string) (servers []string) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			servers = append(servers, f[1])
		}
	}
	return servers
}
