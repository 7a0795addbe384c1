// Package podunit writes the unit files of a service that is a pod, out of a command line of "rkt
// run". Every value in them passes lib/host/unitfile, so that the programs are given what was on
// that command line, whatever it is.
package podunit

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/unitfile"
)

// Steps are the command lines of the steps of a pod's life.
type Steps struct {
	Prepare, Net, Run []string // flags of each program
	Operands          []string // images, their flags and arguments
}

// Pod is what a service is to run.
type Pod struct {
	Name        string // of the unit, without .service
	Programs    string // the directory of the programs, absolute
	Steps       Steps
	Environment [][2]string // RKT_… variables, in order
}

// validName has the characters of systemd.unit(5), without those that a shell or a specifier would
// see.
var validName = regexp.MustCompile(`^[A-Za-z0-9:_.-]{1,200}$`)

// ValidName tells whether a service can be called so: letters, digits and :_.- (no @: it would be a
// template).
func ValidName(name string) bool { return validName.MatchString(name) && !strings.HasPrefix(name, ".") }

// Service is the text of NAME.service, in the composed form: each step of the pod's life is a line.
func (p *Pod) Service() ([]byte, error) {
	if !ValidName(p.Name) {
		return nil, fmt.Errorf("%q: not the name of a service", p.Name)
	}
	f := &unitfile.File{}
	f.Add("Unit", "Description", "Pod "+p.Name)
	f.Add("Unit", "Wants", "network-online.target")
	f.Add("Unit", "After", "network-online.target")
	if slices.Contains(p.Steps.Run, "--mds-register=true") {
		f.Add("Unit", "Wants", "rkt-metadata.socket")
		f.Add("Unit", "After", "rkt-metadata.socket")
	}
	f.Add("Service", "Type", "notify")
	f.Add("Service", "Slice", "machine.slice")
	f.Add("Service", "Delegate", "yes")
	if err := p.allowDevices(f); err != nil {
		return nil, err
	}
	for _, v := range p.Environment {
		text, err := unitfile.Environment(v[0], v[1])
		if err != nil {
			return nil, err
		}
		f.Add("Service", "Environment", text)
	}
	for _, line := range []struct {
		name    string
		program string
		args    [][]string
	}{
		{"ExecStartPre", "rkt-prepare", [][]string{p.Steps.Prepare, p.Steps.Operands}},
		{"ExecStartPre", "rkt-net", [][]string{{"add"}, p.Steps.Net, {"self"}}},
		{"ExecStart", "rkt-run-prepared", [][]string{p.Steps.Run, {"self"}}},
		{"ExecStopPost", "rkt-net", [][]string{{"del", "self"}}},
		{"ExecStopPost", "rkt-gc", [][]string{{"self"}}},
	} {
		argv := []string{filepath.Join(p.Programs, line.program)}
		for _, args := range line.args {
			argv = append(argv, args...)
		}
		text, err := unitfile.Exec(argv)
		if err != nil {
			return nil, err
		}
		f.Add("Service", line.name, text)
	}
	f.Add("Service", "TimeoutStartSec", "10min") // an image may have to be fetched
	f.Add("Service", "KillMode", "mixed")
	f.Add("Service", "Restart", "always")
	f.Add("Install", "WantedBy", "multi-user.target")
	return f.Bytes()
}

// Port is a port of an image that is marked as socket activated.
type Port struct {
	Name     string
	Protocol string // tcp, udp, or unix
	Port     uint
	Count    uint
}

// Socket is the text of NAME.socket, which listens for the ports: each where --port says, else at
// its own number on all addresses, a unix socket at /run/NAME/PORT.
func (p *Pod) Socket(ports []Port) ([]byte, error) {
	f := &unitfile.File{}
	f.Add("Unit", "Description", "Sockets of pod "+p.Name)
	for _, port := range ports {
		setting := map[string]string{"tcp": "ListenStream", "udp": "ListenDatagram", "unix": "ListenStream"}[port.Protocol]
		if setting == "" {
			return nil, fmt.Errorf("port %s: systemd has no sockets for %s", port.Name, port.Protocol)
		}
		if port.Protocol == "unix" {
			text, err := unitfile.Path("/run/" + p.Name + "/" + port.Name)
			if err != nil {
				return nil, err
			}
			f.Add("Socket", setting, text)
			continue
		}
		ip, first, err := p.forwarded(port)
		if err != nil {
			return nil, err
		}
		for n := range max(port.Count, 1) {
			address := strconv.FormatUint(uint64(first+n), 10)
			if ip != "" {
				address = net.JoinHostPort(ip, address)
			}
			f.Add("Socket", setting, address)
		}
	}
	f.Add("Install", "WantedBy", "sockets.target")
	return f.Bytes()
}

// forwarded is where the host has a port, by --port=NAME:[IP:]PORT.
func (p *Pod) forwarded(port Port) (ip string, first uint, err error) {
	first = port.Port
	for _, flag := range p.Steps.Prepare {
		where, ok := strings.CutPrefix(flag, "--port="+port.Name+":")
		if !ok {
			continue
		}
		number := where
		if i := strings.LastIndexByte(where, ':'); i >= 0 {
			ip, number = strings.Trim(where[:i], "[]"), where[i+1:]
			if net.ParseIP(ip) == nil {
				return "", 0, fmt.Errorf("--port=%s:%s: %q is not an IP address", port.Name, where, ip)
			}
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("--port=%s:%s: %q is not a port", port.Name, where, number)
		}
		first = uint(n)
	}
	return ip, first, nil
}
