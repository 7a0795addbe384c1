package host

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// activate has the pod's systemd take the sockets that were passed to the process, and returns the
// environment by which systemd-nspawn knows which descriptors those are.
func (s *starting) activate() ([]string, error) {
	p := s.Pod
	var groups []*group // of one app and one unit of the host each
	for _, socket := range s.Sockets {
		in := slices.IndexFunc(groups, func(g *group) bool {
			return g.app == socket.App && g.sockets[0].Name == socket.Name
		})
		if in < 0 {
			in = len(groups)
			groups = append(groups, &group{app: socket.App})
		}
		groups[in].sockets = append(groups[in].sockets, socket)
	}
	byApp := map[string][]string{}
	var all []string
	for i, g := range groups {
		unit := g.app + "-" + strconv.Itoa(i) + ".socket"
		if err := g.unit().write(p, unit); err != nil {
			return nil, err
		}
		byApp[g.app] = append(byApp[g.app], unit)
		all = append(all, unit)
	}
	for app, units := range byApp {
		list := strings.Join(units, " ")
		// A connection that waits when the app has ended is for the next pod: nothing is started a
		// second time in this one.
		u := section("Unit", "Requires="+list, "After="+list, "StartLimitIntervalSec=infinity", "StartLimitBurst=1").
			with("Service", "Sockets="+list)
		if err := u.dropIn(p, app+".service", "sockets.conf"); err != nil {
			return nil, err
		}
	}
	if len(s.Sockets) == 0 {
		return s.Env, nil
	}
	// systemd closes descriptors for which it has no unit when it starts. It loads few by itself so
	// early, and with them those that they are ordered before.
	if err := section("Unit", "Before="+strings.Join(all, " ")).dropIn(p, "-.slice", "sockets.conf"); err != nil {
		return nil, err
	}
	return append(slices.Clone(s.Env), "LISTEN_PID="+strconv.Itoa(os.Getpid()),
		"LISTEN_FDS="+strconv.Itoa(len(s.Sockets))), nil
}

// group is what one .socket unit of the pod holds: the sockets of one unit of the host's, in their
// order.
type group struct {
	app     string
	sockets []stage1.Socket
}

// unit is the group as a .socket unit.
func (g *group) unit() *unit {
	// Nothing stops it before the pod's end: systemd throws away what waits at a socket that is
	// about to be stopped when its service ends (flush_ports), and that is for the next pod.
	u := section("Unit", "Description=Socket of "+g.app, "DefaultDependencies=no", "IgnoreOnIsolate=yes")
	for _, s := range g.sockets {
		u.add("Socket", s.Kind+"="+strings.ReplaceAll(s.Address, "%", "%%"))
	}
	return u.with("Socket", "FileDescriptorName="+strings.ReplaceAll(stage1.SocketName(g.sockets), "%", "%%"),
		"Service="+g.app+".service")
}

// clearDropIns removes what a start that failed may have left.
func clearDropIns(p *poddir.Pod) error {
	units := unitPath(p, "")
	entries, err := os.ReadDir(units)
	if err != nil {
		return err
	}
	for _, e := range entries {
		socket := strings.HasSuffix(e.Name(), ".socket") && !strings.HasPrefix(e.Name(), "systemd-") &&
			!strings.Contains(e.Name(), "@")
		if socket || strings.HasSuffix(e.Name(), ".d") {
			if err := os.RemoveAll(filepath.Join(units, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
