package run

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/activation"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// socket is a listening socket that the host's systemd has passed to this process.
type socket struct {
	fd       int
	name     string // in $LISTEN_FDNAMES
	kind     string // the setting of systemd.socket(5) that makes one such: ListenStream, …
	protocol string // "tcp", "udp", "unix", …
	port     int    // 0 for a socket of no port
	address  string // as systemd.socket(5) writes it
}

// appPort is a port of an app that is to be socket activated.
type appPort struct {
	app, name, protocol string
	port, count         int  // on the host, if one was chosen for it
	chosen              bool // by --port
}

// activate finds the sockets that were passed to this process and that are meant for apps: they are
// descriptors from activation.First on then, in their order. rest is the environment without what
// tells of them. What no app is to have is closed, and told of, and so is a port of the host that
// was chosen for a socket, where none was passed: nobody listens there.
func activate(p *poddir.Pod, env []string) (rest []string, kept []stage1.Socket, ignored []string, err error) {
	rest, sockets, err := passed(env)
	if err != nil {
		return nil, nil, nil, err
	}
	ports, err := activatedPorts(p)
	if err != nil {
		return nil, nil, nil, err
	}
	ignored = missing(ports, sockets)
	for _, s := range sockets {
		to := slices.IndexFunc(ports, s.belongs)
		if to < 0 && s.protocol == "unix" { // whose one name in the unit of the host is the unit's
			to = slices.IndexFunc(ports, func(p appPort) bool { return p.protocol == "unix" })
		}
		if to < 0 {
			ignored = append(ignored,
				fmt.Sprintf("the socket %s is not passed on: no app of the pod has a socket-activated port for it",
					s.address))
			unix.CloseOnExec(s.fd)
			continue
		}
		if err := move(s.fd, activation.First+len(kept)); err != nil {
			return nil, nil, nil, err
		}
		kept = append(kept, stage1.Socket{App: ports[to].app, Name: s.name, Kind: s.kind, Address: s.address,
			Port: ports[to].name})
	}
	return rest, kept, ignored, nil
}

// move has a descriptor end up at another number, and open across exec(2).
func move(from, to int) error {
	if from == to {
		if _, err := unix.FcntlInt(uintptr(from), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("descriptor %d: %w", from, err)
		}
		return nil
	}
	if err := unix.Dup3(from, to, 0); err != nil {
		return fmt.Errorf("descriptor %d: %w", from, err)
	}
	unix.CloseOnExec(from)
	return nil
}

// passed finds the sockets that systemd has passed (sd_listen_fds(3)), and takes what tells of them
// out of the environment.
func passed(env []string) (rest []string, sockets []socket, err error) {
	values := map[string]string{}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if name == "LISTEN_PID" || name == "LISTEN_FDS" || name == "LISTEN_FDNAMES" {
			values[name] = value
			continue
		}
		rest = append(rest, kv)
	}
	for i, name := range activation.Names(func(name string) string { return values[name] }, os.Getpid()) {
		s, err := describe(activation.First + i)
		if err != nil {
			return nil, nil, fmt.Errorf("socket activation: descriptor %d: %w", activation.First+i, err)
		}
		s.name = name
		sockets = append(sockets, s)
	}
	return rest, sockets, nil
}

// describe asks the kernel what a descriptor is.
func describe(fd int) (socket, error) {
	s := socket{fd: fd}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return s, fmt.Errorf("not a socket (%w); pods can be activated by sockets only", err)
	}
	protocol := ""
	switch kind {
	case unix.SOCK_STREAM:
		s.kind, protocol = "ListenStream", "tcp"
	case unix.SOCK_DGRAM:
		s.kind, protocol = "ListenDatagram", "udp"
	case unix.SOCK_SEQPACKET:
		s.kind, protocol = "ListenSequentialPacket", "sctp"
	default:
		return s, fmt.Errorf("a socket of type %d, which no app can be given", kind)
	}
	if listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); kind != unix.SOCK_DGRAM &&
		(err != nil || listening == 0) {
		return s, errors.New("a connection, not a listening socket (Accept=yes does not work with pods)")
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return s, err
	}
	switch local := local.(type) {
	case *unix.SockaddrInet4:
		s.protocol, s.port = protocol, local.Port
		s.address = netip.AddrPortFrom(netip.AddrFrom4(local.Addr), uint16(local.Port)).String()
	case *unix.SockaddrInet6:
		s.protocol, s.port = protocol, local.Port
		s.address = netip.AddrPortFrom(netip.AddrFrom16(local.Addr), uint16(local.Port)).String()
	case *unix.SockaddrUnix:
		s.protocol, s.address = "unix", local.Name
	default:
		return s, errors.New("a socket of a family that no app can be given")
	}
	if strings.ContainsFunc(s.address, func(r rune) bool { return r < ' ' || r == 0x7f }) ||
		strings.TrimSpace(s.address) != s.address {
		return s, fmt.Errorf("its path %q can't be written into a unit file", s.address)
	}
	return s, nil
}

// belongs reports whether a socket is meant for a port: by name, if it has the port's, else by
// protocol and number.
func (s socket) belongs(p appPort) bool {
	if s.name == p.name {
		return true
	}
	return s.port != 0 && s.protocol == p.protocol && p.port <= s.port && s.port < p.port+p.count
}

// missing has a line for each port that was chosen on the host and that none of the sockets is for.
func missing(ports []appPort, sockets []socket) (lines []string) {
	for _, port := range ports {
		if port.chosen && !slices.ContainsFunc(sockets, func(s socket) bool { return s.belongs(port) }) {
			lines = append(lines, fmt.Sprintf("nothing listens on port %d of the host: port %s of app %s is socket "+
				"activated, and no socket was passed for it; a .socket unit does that", port.port, port.name, port.app))
		}
	}
	return lines
}

// activatedPorts are the ports of the pod's apps that are to be socket activated, where the host
// has them.
func activatedPorts(p *poddir.Pod) ([]appPort, error) {
	manifest, err := p.Manifest()
	if err != nil {
		return nil, err
	}
	var ports []appPort
	for _, app := range manifest.Apps {
		if app.App == nil {
			continue
		}
		for _, port := range app.App.Ports {
			if !port.Activated {
				continue
			}
			a := appPort{app: app.Name, name: port.Name, protocol: port.Protocol, port: port.Port,
				count: max(port.Count, 1)}
			for _, exposed := range manifest.Ports {
				if exposed.Name == port.Name {
					a.port, a.chosen = exposed.HostPort, true
				}
			}
			ports = append(ports, a)
		}
	}
	return ports, nil
}
