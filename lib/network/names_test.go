package network

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// flags sets --NAME=VALUE flags, separated by spaces.
func (n *Names) flags(t *testing.T, flags string) error {
	t.Helper()
	set := map[string]func(string) error{"dns": n.SetServers, "dns-search": n.SetSearch, "dns-opt": n.SetOption,
		"dns-domain": n.SetDomain, "hosts-entry": n.SetHosts}
	for flag := range strings.FieldsSeq(flags) {
		name, value, _ := strings.Cut(flag, "=")
		if err := set[name](value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func TestNames(t *testing.T) {
	dir := directory(t, "resolv.conf",
		"# the host's\nnameserver 192.0.2.53\nnameserver 127.0.0.53\nsearch example.org\n", "resolved",
		"nameserver 192.0.2.54\n", "stub", "nameserver 127.0.0.53\n", "empty", "")
	old := [2]string{resolvConf, resolvedConf}
	t.Cleanup(func() { resolvConf, resolvedConf = old[0], old[1] })
	const answer = `{"dns":{"nameservers":["10.1.0.1"],"domain":"cni","search":["a.cni","b.cni"],` +
		`"options":["ndots:2"]}}`
	const answered = "nameserver 10.1.0.1\ndomain cni\nsearch a.cni b.cni\noptions ndots:2\n"
	const ours = "# the host's\nnameserver 192.0.2.53\nsearch example.org\n"
	for _, test := range []struct {
		flags, results string // results are separated by spaces
		host           string // network or file
		want           map[string]string
	}{
		{"", "", "", map[string]string{"host-resolv.conf": ours}},
		{"", "{}", "", map[string]string{"host-resolv.conf": ours}},
		{"", "", "network", map[string]string{"host-resolv.conf": "# the host's\nnameserver 192.0.2.53\nnameserver " +
			"127.0.0.53\nsearch example.org\n"}},
		{"", "", "stub", map[string]string{"host-resolv.conf": "nameserver 192.0.2.54\n"}},
		{"", "", "stub only", map[string]string{}},
		{"", "", "empty", map[string]string{}},
		{"", "{} " + answer + ` {"dns":{"domain":"x"}}`, "", map[string]string{"resolv.conf": answered}},
		{"dns=none", answer, "", map[string]string{}},
		{"dns=host", answer, "", map[string]string{"resolv.conf": ours}},
		{"dns=host", answer, "stub only", map[string]string{"resolv.conf": "nameserver 127.0.0.53\n"}},
		{"dns=1.1.1.1 dns=fd00::1,8.8.8.8", answer, "",
			map[string]string{"resolv.conf": "nameserver 1.1.1.1\nnameserver fd00::1\nnameserver 8.8.8.8\n"}},
		{"dns=1.1.1.1 dns-search=a.org,b.org dns-opt=debug dns-opt=ndots:3 dns-domain=c.org", "", "",
			map[string]string{"resolv.conf": "nameserver 1.1.1.1\ndomain c.org\nsearch a.org b.org\noptions debug " +
				"ndots:3\n"}},
		{"dns-search=a.org", answer, "", map[string]string{"resolv.conf": "nameserver 10.1.0.1\nsearch a.org\n"}},
		{"dns-search=a.org", "", "", map[string]string{"resolv.conf": "nameserver 192.0.2.53\nsearch a.org\n"}},
		{"hosts-entry=10.0.0.1=db hosts-entry=10.0.0.2=web,fd00::2=web", "", "empty",
			map[string]string{"hosts": "127.0.0.1 localhost localhost.domain localhost4 localhost4.localdomain4\n::1 " +
				"localhost ip6-localhost ip6-loopback\n10.0.0.1 db\n10.0.0.2 web\nfd00::2 web\n"}},
		{"hosts-entry=host", "", "empty", map[string]string{"host-hosts": "/etc/hosts\n"}},
	} {
		t.Run(test.flags+" "+test.host, func(t *testing.T) {
			resolvConf, resolvedConf = filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "resolved")
			switch test.host {
			case "stub":
				resolvConf = filepath.Join(dir, "stub")
			case "stub only":
				resolvConf, resolvedConf = filepath.Join(dir, "stub"), filepath.Join(dir, "nonexistent")
			case "empty":
				resolvConf, resolvedConf = filepath.Join(dir, "empty"), filepath.Join(dir, "nonexistent")
			}
			var n Names
			if err := n.flags(t, test.flags); err != nil {
				t.Fatal(err)
			}
			var results [][]byte
			for result := range strings.FieldsSeq(test.results) {
				results = append(results, []byte(result))
			}
			got, err := n.Files(results, test.host == "network")
			if err != nil || !maps.Equal(got, test.want) {
				t.Fatalf("got %q, %v", got, err)
			}
		})
	}
}

func TestNamesWrong(t *testing.T) {
	for flags, wrong := range map[string]string{
		"dns=nowhere":              `dns: "nowhere" ... an IP address`,
		"dns=1.1.1.1,":             `dns: "" ... an IP address`,
		"dns=host dns=1.1.1.1":     `dns: --dns=host stands alone`,
		"dns=1.1.1.1 dns=none":     `dns: --dns=none stands alone`,
		"dns=host dns=none":        `exclude each other`,
		"dns-search=x dns=host":    `dns: --dns=host stands alone`,
		"dns=none dns-opt=debug":   `dns-opt: --dns=none stands alone`,
		"dns-search=a/b":           `dns-search: "a/b" is not a domain`,
		"dns-domain=":              `dns-domain: "" is not a domain`,
		"dns-opt=":                 `dns-opt: "" is not an option`,
		"hosts-entry=db":           `hosts-entry: "db" is not ADDRESS=NAME`,
		"hosts-entry=db=10.0.0.1":  `hosts-entry: "db=10.0.0.1" is not ADDRESS=NAME`,
		"hosts-entry=10.0.0.1=a;b": `hosts-entry: "10.0.0.1=a;b" is not ADDRESS=NAME`,
		"hosts-entry=10.0.0.1":     `hosts-entry: "10.0.0.1" is not ADDRESS=NAME`,
	} {
		var n Names
		if err := n.flags(t, flags); !testkit.Says(err, wrong) {
			t.Errorf("%s: %v, want %s", flags, err, wrong)
		}
	}
	var n Names
	for _, result := range []string{`{"dns":{"nameservers":["1.1.1.1\nsearch evil"]}}`, `{"dns":{"search":["a b"]}}`,
		`{"dns":5}`} {
		if files, err := n.Files([][]byte{[]byte(result)}, false); err == nil {
			t.Errorf("%s: %q", result, files)
		}
	}
}

// FuzzNames: what is taken adds no line of its own.
func FuzzNames(f *testing.F) {
	f.Add("1.1.1.1", "a.org", "ndots:1", "10.0.0.1=db")
	f.Fuzz(func(t *testing.T, server, search, option, hosts string) {
		var n Names
		if n.SetServers(server) != nil || n.SetSearch(search) != nil || n.SetOption(option) != nil ||
			n.SetHosts(hosts) != nil {
			return
		}
		files, err := n.Files(nil, false)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(files[ResolvFile]) {
			if word, _, _ := strings.Cut(line, " "); !slices.Contains([]string{"nameserver", "search", "options"},
				word) {
				t.Fatalf("%q", line)
			}
		}
		if got := strings.Count(files[HostsFile], "\n"); files[HostsFile] != "" && got != 2+len(n.hosts) &&
			!n.hostsFile {
			t.Fatalf("%q", files[HostsFile])
		}
	})
}
