package network

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// PortsFile is in the directory of the interface whose network forwards the pod's ports: a JSON
// array of Port.
const PortsFile = poddir.NetPortsFile

// Port is a port of the host that is forwarded to the pod. Its JSON is that of CNI's portMappings
// capability (CNI's CONVENTIONS.md).
type Port struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"` // "" is every address of the host
}

// String is the host's side: ADDRESS:PORT/PROTOCOL, or PORT/PROTOCOL.
func (p Port) String() string {
	s := fmt.Sprintf("%d/%s", p.HostPort, p.Protocol)
	if p.HostIP == "" {
		return s
	}
	if ip, err := netip.ParseAddr(p.HostIP); err == nil && ip.Is6() {
		return "[" + p.HostIP + "]:" + s
	}
	return p.HostIP + ":" + s
}

// Conflicts reports whether one packet from outside could be meant for both.
func (p Port) Conflicts(q Port) bool {
	return p.HostPort == q.HostPort && p.Protocol == q.Protocol && (p.any() || q.any() || p.HostIP == q.HostIP)
}

// any reports whether all of the host's addresses are meant. That 0.0.0.0 is not :: makes no
// difference to who may have a port.
func (p Port) any() bool {
	ip, err := netip.ParseAddr(p.HostIP)
	return err != nil || ip.IsUnspecified()
}

// maxPorts bounds what a manifest can ask for: each port is a handful of rules.
const maxPorts = 1024

// PodPorts reads the forwarded ports of a pod manifest (appc's PodManifest, "ports"): each names a
// port that an app declares, or has the port itself. Ranges become single ports. A port that is
// socket activated is not forwarded.
func PodPorts(pod *poddir.Manifest) ([]Port, error) {
	var all []Port
	for _, exposed := range pod.Ports {
		to := target(pod, exposed)
		if to == nil {
			return nil, fmt.Errorf("port %q: no app of the pod declares it", exposed.Name)
		}
		if to.Activated { // the host's systemd listens there for the app
			continue
		}
		ports, err := forward(exposed, *to, maxPorts-len(all))
		if err != nil {
			return nil, fmt.Errorf("port %q: %w", exposed.Name, err)
		}
		for _, p := range ports {
			if slices.ContainsFunc(all, p.Conflicts) {
				return nil, fmt.Errorf("port %q: %s is forwarded twice", exposed.Name, p)
			}
			all = append(all, p)
		}
	}
	return all, nil
}

// target finds the app's port that an exposed one means: its own, or the first that an app declares
// under its name.
func target(m *poddir.Manifest, exposed poddir.ExposedPort) *poddir.AppPort {
	if exposed.PodPort != nil {
		return exposed.PodPort
	}
	for _, app := range m.Apps {
		if app.App == nil {
			continue
		}
		for _, port := range app.App.Ports {
			if port.Name == exposed.Name {
				return &port
			}
		}
	}
	return nil
}

// forward makes single ports, at most left, of an exposed port and the app's.
func forward(e poddir.ExposedPort, to poddir.AppPort, left int) (ports []Port, err error) {
	if e.HostIP != "" {
		ip, err := netip.ParseAddr(e.HostIP)
		if err != nil {
			return nil, err
		}
		e.HostIP = ip.Unmap().String()
	}
	count := max(to.Count, 1)
	if e.HostPort < 1 || e.HostPort+count > 1<<16 || to.Port < 1 || to.Port+count > 1<<16 {
		return nil, fmt.Errorf("%d from %d on to %d: not within 1 to 65535", count, e.HostPort, to.Port)
	}
	if count > left {
		return nil, fmt.Errorf("with it the pod has more than %d ports to forward", maxPorts)
	}
	if !slices.Contains([]string{"tcp", "udp", "sctp"}, to.Protocol) {
		return nil, fmt.Errorf("protocol %q can't be forwarded", to.Protocol)
	}
	for i := range count {
		ports = append(ports, Port{e.HostPort + i, to.Port + i, to.Protocol, e.HostIP})
	}
	return ports, nil
}

// Forwarded reads which ports of the host are forwarded to the pod in podDir, or are about to be.
func Forwarded(podDir string) ([]Port, error) {
	files, err := filepath.Glob(filepath.Join(podDir, Dir, "eth*", PortsFile))
	if err != nil {
		return nil, err
	}
	var all []Port
	for _, file := range files {
		ports, err := readPorts(file)
		if err != nil {
			return nil, err
		}
		all = append(all, ports...)
	}
	return all, nil
}

// readPorts returns nil where readForNow does.
func readPorts(file string) (ports []Port, err error) {
	data, err := readForNow(filepath.Dir(file), filepath.Base(file))
	if data == nil && err == nil {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &ports)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return ports, nil
}
