package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Names under a pod's net/.
const (
	Dir        = poddir.NetDir
	NetnsFile  = poddir.NetnsName
	PathFile   = poddir.NetPathFile
	ConfigFile = poddir.NetConfigFile
	ArgsFile   = poddir.NetArgsFile
	ResultFile = poddir.NetResultFile
)

// Interface is the name of a pod's n-th network interface, from 0.
func Interface(n int) string { return "eth" + strconv.Itoa(n) }

// Attachment is what a pod's directory says of one interface: what was intended before any plugin
// was called, and what came of it.
type Attachment struct {
	Interface string
	Config    []byte
	Args      string
	Ports     []Port // those that this network forwards
	Result    []byte // nil when no plugin has answered yet
}

// Attachments reads the attachments of the pod in podDir, in the order they were made in. None is
// not an error.
func Attachments(podDir string) ([]Attachment, error) {
	dir := filepath.Join(podDir, Dir)
	if info, err := os.Lstat(dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%s: not a directory", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []Attachment
	for _, e := range entries {
		if _, ok := number(e.Name()); !ok || !e.IsDir() {
			continue
		}
		a := Attachment{Interface: e.Name()}
		if a.Config, err = read(dir, e.Name(), ConfigFile); err != nil {
			return nil, err
		}
		if a.Result, err = readForNow(dir, e.Name(), ResultFile); err != nil {
			return nil, err
		}
		// Taken down already; or a loss of power came before the record was on the disk, and no
		// plugin was called.
		if a.Config == nil || a.Result == nil && durable.Lost(a.Config) {
			continue
		}
		args, err := readForNow(dir, e.Name(), ArgsFile)
		if err != nil {
			return nil, err
		}
		a.Args = strings.TrimSuffix(string(args), "\n")
		if a.Ports, err = readPorts(filepath.Join(dir, e.Name(), PortsFile)); err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b Attachment) int {
		i, _ := number(a.Interface)
		j, _ := number(b.Interface)
		return i - j
	})
	return all, nil
}

// number is the n of Interface.
func number(name string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimPrefix(name, "eth"))
	return n, err == nil && n >= 0 && name == Interface(n)
}

// read returns nil for a file that is not there.
func read(path ...string) ([]byte, error) {
	data, err := poddir.ReadBelow(path[0], filepath.Join(path[1:]...))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// readForNow is read for what a loss of power may have left empty, or with zeros, see
// durable.WriteForNow: then it returns nil too.
func readForNow(path ...string) ([]byte, error) {
	data, err := read(path...)
	if durable.Lost(data) {
		data = nil
	}
	return data, err
}

// Namespace is where the pod in podDir has its network: a path, or "host", or "" as long as rkt-net
// has not finished.
func Namespace(podDir string) (string, error) {
	data, err := readForNow(podDir, Dir, NetnsFile)
	return strings.TrimSuffix(string(data), "\n"), err
}

// Network is a network that a pod has joined, with rkt's names in JSON, and beside them all its
// addresses.
type Network struct {
	Name       string       `json:"netName"`    // of the network
	Config     string       `json:"netConf"`    // the configuration as used, in the pod's directory
	PluginPath string       `json:"pluginPath"` // of the first plugin; "" if it is not known
	Interface  string       `json:"ifName"`     // in the pod
	IP         netip.Addr   `json:"ip"`         // the first IPv4 address, or else the first
	Args       string       `json:"args"`       // CNI arguments
	Mask       netip.Addr   `json:"mask"`       // of IP
	IPs        []netip.Addr `json:"ips"`        // all addresses; not in rkt

	plugin string // the type of the first plugin
}

// String is rkt's form of a network in `rkt list`: NAME:ip4=ADDRESS.
func (n Network) String() string {
	s := n.Name
	for i, ip := range n.IPs {
		sep, family := ",", "ip4"
		if i == 0 {
			sep = ":"
		}
		if ip.Is6() {
			family = "ip6"
		}
		s += sep + family + "=" + ip.String()
	}
	return s
}

// Read lists the networks of the pod in podDir, those that have an answer. It is what `rkt list`
// shows.
func Read(podDir string) ([]Network, error) {
	attachments, err := Attachments(podDir)
	if err != nil {
		return nil, err
	}
	path, err := readForNow(podDir, Dir, PathFile)
	if err != nil {
		return nil, err
	}
	directories := strings.Split(strings.TrimSuffix(string(path), "\n"), "\n")
	var networks []Network
	for _, a := range attachments {
		if a.Result == nil {
			continue
		}
		n, err := a.Network()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(podDir, Dir, a.Interface), err)
		}
		n.PluginPath = pluginIn(directories, n.plugin)
		networks = append(networks, n)
	}
	return networks, nil
}

// pluginIn is the path of a plugin in the first of the directories that has it, or "".
func pluginIn(dirs []string, plugin string) string {
	for _, dir := range dirs {
		path := filepath.Join(dir, plugin)
		if _, err := os.Stat(path); err == nil && filepath.IsAbs(dir) && plugin != "" {
			return path
		}
	}
	return ""
}

// Network reads the attachment's configuration and result.
func (a Attachment) Network() (Network, error) {
	var config struct {
		Name    string `json:"name"`
		Type    string `json:"type"` // of a configuration that is no list
		Plugins []struct {
			Type string `json:"type"`
		} `json:"plugins"`
	}
	if err := unmarshal(a.Config, &config); err != nil {
		return Network{}, fmt.Errorf("%s: %w", ConfigFile, err)
	}
	n := Network{Name: config.Name, Config: filepath.Join(Dir, a.Interface, ConfigFile), Interface: a.Interface,
		Args: a.Args, plugin: config.Type}
	if len(config.Plugins) > 0 {
		n.plugin = config.Plugins[0].Type
	}
	if a.Result == nil {
		return n, nil
	}
	var result struct {
		IPs []struct { // CNI 0.3.0 and later
			Address string `json:"address"`
		} `json:"ips"`
		IP4, IP6 struct { // before
			IP string `json:"ip"`
		}
	}
	if err := json.Unmarshal(a.Result, &result); err != nil {
		return Network{}, fmt.Errorf("%s: %w", ResultFile, err)
	}
	addresses := []string{result.IP4.IP, result.IP6.IP}
	for _, ip := range result.IPs {
		addresses = append(addresses, ip.Address)
	}
	for _, address := range addresses {
		if address == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(address)
		if err != nil {
			return Network{}, fmt.Errorf("%s: %w", ResultFile, err)
		}
		n.IPs = append(n.IPs, prefix.Addr())
		if !n.IP.IsValid() || n.IP.Is6() && prefix.Addr().Is4() {
			mask := net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())
			n.IP = prefix.Addr()
			n.Mask, _ = netip.AddrFromSlice(mask)
		}
	}
	return n, nil
}
