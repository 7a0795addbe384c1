package host

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/inside"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
)

// announce has the pod's systemd say when the pod is ready.
func (s *starting) announce() error {
	var names, byHealth []string
	for _, a := range s.Apps {
		names = append(names, a.Name)
		if a.Prepared != nil && a.Prepared.Annotations[stage1.ReadyAnnotation] == stage1.ReadyByHealth {
			byHealth = append(byHealth, a.Name)
		}
	}
	unit, wants := Ready(names, byHealth)
	if err := unit.write(s.Pod, ReadyUnit); err != nil {
		return err
	}
	return wants.dropIn(s.Pod, "default.target", "ready.conf")
}

// notifications prepares that what the apps say by sd_notify(3) reaches the unit that this process
// is in: that the pod is ready systemd-nspawn tells, the rest is rkt-notify's if the unit listens
// to it (NotifyAccess=all). Where it does not, the pod's own systemd looks after the unit's
// WatchdogSec=, and systemd-nspawn says for itself that it is alive. It returns the environment of
// systemd-nspawn and further arguments.
func (s *starting) notifications(env []string) (changed, options []string, err error) {
	p := s.Pod
	values := map[string]string{}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		values[name] = value
		if name != "WATCHDOG_USEC" && name != "WATCHDOG_PID" {
			changed = append(changed, kv)
		}
	}
	socket, watchdog := values["NOTIFY_SOCKET"], values["WATCHDOG_USEC"]
	if _, err := strconv.ParseUint(watchdog, 10, 64); err != nil {
		watchdog = ""
	}
	unit := systemd.Unit()
	if !filepath.IsAbs(socket) || unit == "" {
		return env, nil, nil
	}
	apps, err := s.notifying()
	if err != nil || len(apps) == 0 {
		return env, nil, err
	}
	if place.Property(unit, "NotifyAccess") != "all" {
		for _, a := range apps {
			if watchdog == "" {
				continue
			}
			u := section("Service", "WatchdogSec="+watchdog+"us")
			if err := u.dropIn(p, a.Name+".service", "watchdog.conf"); err != nil {
				return nil, nil, err
			}
		}
		return env, nil, nil
	}
	notify, err := s.Look("rkt-notify")
	if err != nil {
		return nil, nil, err
	}
	for _, a := range apps {
		if err := listen(p, a, watchdog); err != nil {
			return nil, nil, err
		}
	}
	var sockets []string
	for _, a := range apps {
		sockets = append(sockets, a.Name+"-notify.socket")
	}
	u := section("Service", "Sockets="+strings.Join(sockets, " "))
	if err := u.dropIn(p, "rkt-notify.service", "sockets.conf"); err != nil {
		return nil, nil, err
	}
	for _, path := range []string{"/rkt/notify", inside.HostNotify} {
		if err := mountable(p, path); err != nil {
			return nil, nil, err
		}
	}
	return changed, []string{"--bind-ro=" + notify + ":/rkt/notify", "--bind=" + socket + ":" + inside.HostNotify}, nil
}

// unheard tells that nobody hears from the pod at an abstract socket of the host's network
// namespace: systemd-nspawn is in the pod's. "" is nothing to tell.
func (s *starting) unheard(env []string) string {
	if s.Network == "" {
		return ""
	}
	for _, v := range env {
		if socket, ok := strings.CutPrefix(v, "NOTIFY_SOCKET=@"); ok {
			return fmt.Sprintf("NOTIFY_SOCKET=@%s: an abstract socket can't be reached from the pod's network, "+
				"and nothing is told there; use one that has a path", socket)
		}
	}
	return ""
}

// listen has rkt-notify take what an app says. watchdog is in microseconds; "" is none.
func listen(p *poddir.Pod, a *stage1.Starting, watchdog string) error {
	name, socket := a.Name+"-notify.socket", "/run/rkt/notify/"+a.Name
	u := section("Unit", "Description=Notifications of "+a.Name, "DefaultDependencies=no",
		"Conflicts=shutdown.target", "Before=shutdown.target", "StartLimitIntervalSec=0").
		with("Socket", "TriggerLimitIntervalSec=0", "ListenDatagram="+socket, "PassCredentials=yes", "SocketMode=0666",
			"FileDescriptorName="+a.Name, "Service=rkt-notify.service")
	if err := u.write(p, name); err != nil {
		return err
	}
	a.Final.Notify, a.Final.Without = socket, append(a.Final.Without, inside.PodNotify)
	if watchdog != "" {
		a.Final.Environment = append(a.Final.Environment, "WATCHDOG_USEC="+watchdog)
	}
	part := section("Unit", "Requires="+name, "After="+name)
	if a.Prepared == nil {
		part.add("Service", "BindPaths="+socket+":"+stage1.AppNotify, "Environment=NOTIFY_SOCKET="+stage1.AppNotify)
		if watchdog != "" {
			part.add("Service", "Environment=WATCHDOG_USEC="+watchdog)
		}
	}
	return part.dropIn(p, a.Name+".service", "notify.conf")
}

// notifying are the apps that call sd_notify(3).
func (s *starting) notifying() (apps []*stage1.Starting, err error) {
	for _, a := range s.Apps {
		does := a.Prepared != nil && notifies(a.Prepared)
		if a.Prepared == nil {
			text, err := os.ReadFile(unitPath(s.Pod, a.Name+".service"))
			if err != nil {
				return nil, err
			}
			does = bytes.Contains(text, []byte("\nType=notify\n"))
		}
		if does {
			apps = append(apps, a)
		}
	}
	return apps, nil
}
