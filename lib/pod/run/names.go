package run

import (
	"errors"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// names are the files in which a pod's apps look names up; nil is none.
type names struct {
	resolv, hosts         []byte // in the place of the image's
	resolvStub, hostsStub []byte // where the image has none
	hostname              []byte // /etc/hostname
	hostHosts             bool   // the host's file is mounted on /etc/hosts
}

// readNames puts together what rkt-net has left.
func readNames(p *poddir.Pod, hostname string) (*names, error) {
	if hostname == "" {
		hostname = stage1.PodName(p.UUID)
	}
	n := names{hostname: []byte(hostname + "\n")}
	for name, to := range map[string]*[]byte{network.ResolvFile: &n.resolv, network.HostResolvFile: &n.resolvStub,
		network.HostsFile: &n.hosts} {
		text, err := p.ReadFile(poddir.NetDir + "/" + name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if err == nil {
			*to = append([]byte{}, text...)
		}
	}
	_, err := p.ReadFile(poddir.NetDir + "/" + network.HostHostsFile)
	if n.hostHosts = err == nil; err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	address := "127.0.1.1" // Debian's, for a host whose address is not known
	networks, err := network.Read(p.Dir())
	if err != nil {
		return nil, err
	}
	for _, joined := range networks {
		if len(joined.IPs) > 0 {
			address = joined.IPs[0].String()
			break
		}
	}
	line := address + " " + hostname + "\n"
	n.hostsStub = []byte(network.Localhost + line)
	if n.hosts != nil && !mentions(string(n.hosts), hostname) {
		n.hosts = append(n.hosts, line...)
	}
	return &n, nil
}

// mentions reports whether a hosts(5) file has a name.
func mentions(hosts, name string) bool {
	for line := range strings.Lines(hosts) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 1 {
			for _, n := range f[1:] {
				if n == name {
					return true
				}
			}
		}
	}
	return false
}

// volumes are an app's, and before them the host's file for names if it has no volume there itself.
func (n *names) volumes(own []fstab.Bind) []fstab.Bind {
	isThere := slices.ContainsFunc(own, func(b fstab.Bind) bool { return path.Clean(b.Target) == network.HostHosts })
	if !n.hostHosts || isThere {
		return own
	}
	return append([]fstab.Bind{{Source: network.HostHosts, Target: network.HostHosts, ReadOnly: true, NoDev: true}},
		own...)
}

// give writes the files into the root of an app, and /etc/hostname and /etc/mtab, as rkt did.
func (n *names) give(appRoot string) error {
	root, err := os.Open(appRoot)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, file := range []struct {
		path          string
		instead, stub []byte
	}{{"/etc/resolv.conf", n.resolv, n.resolvStub}, {"/etc/hosts", n.hosts, n.hostsStub}} {
		text := file.instead
		if text == nil {
			if text = file.stub; text == nil || !absent(root, file.path) {
				continue
			}
		}
		if err := overlay.WriteFile(root, file.path, text, 0o644); err != nil {
			return err
		}
	}
	return n.giveHostname(root)
}

// giveHostname writes /etc/hostname and, where the image has none, makes /etc/mtab. An image whose
// /etc or /etc/hostname is something else than usual stays as it is.
func (n *names) giveHostname(root *os.File) error {
	isThere := func(path string, kind uint32) bool {
		st, err := overlay.Stat(root, path)
		return errors.Is(err, os.ErrNotExist) || err == nil && st.Mode&unix.S_IFMT == kind
	}
	if !isThere("/etc", unix.S_IFDIR) || !isThere("/etc/hostname", unix.S_IFREG) {
		return nil
	}
	if err := overlay.WriteFile(root, "/etc/hostname", n.hostname, 0o644); err != nil {
		return err
	}
	return overlay.Symlink(root, "../proc/self/mounts", "/etc/mtab")
}

// absent reports whether an image lacks a file: it is not there, or a link to nowhere, or empty, as
// builders of images leave the ones that they had mounted.
func absent(root *os.File, path string) bool {
	st, err := overlay.Stat(root, path)
	return errors.Is(err, os.ErrNotExist) || err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0
}

// validHostname is what systemd takes (hostname(7), and no more than the kernel has room for).
func validHostname(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-') {
				return false
			}
		}
	}
	return len(name) <= 64
}
