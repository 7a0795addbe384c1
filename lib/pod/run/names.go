package run

import (
	"errors"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/host/selinux"
	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/network/peers"
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
	peers                 bool   // other pods are found by name: each app has a hosts(5) file that is kept in step
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
	_, err = os.Lstat(p.Path(poddir.NetDir + "/" + network.ImageHostsFile))
	n.peers = len(networks) > 0 && !n.hostHosts && errors.Is(err, os.ErrNotExist)
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

// volumes are an app's, and before them what it finds at /etc/hosts if it has no volume there
// itself: the host's file for names, or the one with the names of other pods.
func (n *names) volumes(peers *fstab.Bind, own []fstab.Bind) []fstab.Bind {
	switch {
	case peers != nil:
		return append([]fstab.Bind{*peers}, own...)
	case n.hostHosts && !hasHosts(own):
		return append([]fstab.Bind{{Source: network.HostHosts, Target: network.HostHosts, ReadOnly: true, NoDev: true}},
			own...)
	}
	return own
}

// hasHosts reports whether a volume has an app's /etc/hosts.
func hasHosts(volumes []fstab.Bind) bool {
	return slices.ContainsFunc(volumes, func(b fstab.Bind) bool {
		return isBelow(network.HostHosts, path.Clean(b.Target))
	})
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
	}{{"/etc/resolv.conf", n.resolv, n.resolvStub}, {network.HostHosts, n.hosts, n.hostsStub}} {
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

// peersDir is where an app has the directory with its hosts(5) file, to which a link at /etc/hosts
// leads: a file there could not be replaced by another while the app has it.
const peersDir = "/etc/.rkt"

// maxHosts is how large the file of an image may be to which names of pods are added.
const maxHosts = 1 << 20

// ownHosts has an app find other pods by name: its file, as give has left it, becomes the start of
// one in the pod's directory. It returns the mount, nil for an app whose /etc/hosts stays its own.
func (n *names) ownHosts(p *poddir.Pod, a *app, appRoot string, volumes []fstab.Bind,
	label *selinux.Context) (*fstab.Bind, error) {
	if !n.peers || hasHosts(volumes) {
		return nil, nil
	}
	root, err := os.Open(appRoot)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	own, err := overlay.ReadFile(root, network.HostHosts, maxHosts)
	if err != nil {
		return nil, nil // what is no file, or longer, stays
	}
	if len(own) > 0 && own[len(own)-1] != '\n' {
		own = append(own, '\n')
	}
	dir, err := peers.Own(p, a.Name, own)
	if err != nil {
		return nil, err
	}
	if label != nil {
		if err := selinux.SetTree(dir, *label); err != nil {
			return nil, err
		}
	}
	return &fstab.Bind{Source: dir, Target: peersDir, ReadOnly: true, NoDev: true}, nil
}

// linkHosts has /etc/hosts of an app be the file in peersDir.
func linkHosts(appRoot string) error {
	root, err := os.Open(appRoot)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := overlay.MkdirAll(root, peersDir, 0o755); err != nil {
		return err
	}
	return overlay.Replace(root, path.Base(peersDir)+"/"+poddir.HostsFile, network.HostHosts)
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
