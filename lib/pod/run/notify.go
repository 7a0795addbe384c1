package run

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/program"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// hostNotify is where the pod's systemd has the host's notification socket, which no app can see. It is not below /run: systemd-nspawn
// would make /run/rkt for it, and in a pod with users of its own nobody could write there.
const hostNotify = "/rkt/host-notify"

// announce has the pod's systemd say when the pod is ready.
func announce(p *poddir.Pod, apps []*app) error {
	var names []string
	for _, a := range apps {
		names = append(names, a.name)
	}
	unit, text := stage1.Ready(names)
	if err := os.WriteFile(unitPath(p, stage1.ReadyUnit), []byte(unit), 0o600); err != nil {
		return err
	}
	return dropIn(p, "default.target", "ready.conf", text)
}

// notifications prepares that what the apps say by sd_notify(3) reaches the unit that this process is in: that the pod is ready
// systemd-nspawn tells, the rest is rkt-notify's if the unit listens to it (NotifyAccess=all). Where it does not, the pod's own systemd
// looks after the unit's WatchdogSec=, and systemd-nspawn says for itself that it is alive. It returns the environment of systemd-nspawn
// and further arguments.
func notifications(p *poddir.Pod, all []*app, env []string, look func(string) (string, error)) (changed, options []string, err error) {
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
	apps, err := notifying(p, all)
	if err != nil || len(apps) == 0 {
		return env, nil, err
	}
	if property(unit, "NotifyAccess") != "all" {
		for _, a := range apps {
			if watchdog == "" {
				continue
			}
			if err := dropIn(p, a.name+".service", "watchdog.conf", "[Service]\nWatchdogSec="+watchdog+"us\n"); err != nil {
				return nil, nil, err
			}
		}
		return env, nil, nil
	}
	notify, err := look("rkt-notify")
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
		sockets = append(sockets, a.name+"-notify.socket")
	}
	if err := dropIn(p, "rkt-notify.service", "sockets.conf", "[Service]\nSockets="+strings.Join(sockets, " ")+"\n"); err != nil {
		return nil, nil, err
	}
	for _, path := range []string{"/rkt/notify", hostNotify} {
		if err := mountable(p, path); err != nil {
			return nil, nil, err
		}
	}
	return changed, []string{"--bind-ro=" + notify + ":/rkt/notify", "--bind=" + socket + ":" + hostNotify}, nil
}

// unheard tells that nobody hears from the pod at an abstract socket of the host's network namespace: systemd-nspawn is
// in the pod's. "" is nothing to tell.
func unheard(p *poddir.Pod, env []string) string {
	network, err := namespace(p)
	if err != nil || network == "" {
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
func listen(p *poddir.Pod, a *app, watchdog string) error {
	unit, socket := a.name+"-notify.socket", "/run/rkt/notify/"+a.name
	text := "[Unit]\nDescription=Notifications of " + a.name + "\nDefaultDependencies=no\nConflicts=shutdown.target\nBefore=shutdown.target\n" +
		"StartLimitIntervalSec=0\n\n[Socket]\nTriggerLimitIntervalSec=0\n" +
		"ListenDatagram=" + socket + "\nPassCredentials=yes\nSocketMode=0666\nFileDescriptorName=" + a.name + "\nService=rkt-notify.service\n"
	if err := os.WriteFile(unitPath(p, unit), []byte(text), 0o600); err != nil {
		return err
	}
	a.final.Notify = socket
	if watchdog != "" {
		a.final.Environment = append(a.final.Environment, "WATCHDOG_USEC="+watchdog)
	}
	text = "[Unit]\nRequires=" + unit + "\nAfter=" + unit + "\n"
	if a.prepared == nil {
		text += "\n[Service]\nBindPaths=" + socket + ":" + stage1.AppNotify + "\nEnvironment=NOTIFY_SOCKET=" + stage1.AppNotify + "\n"
		if watchdog != "" {
			text += "Environment=WATCHDOG_USEC=" + watchdog + "\n"
		}
	}
	return dropIn(p, a.name+".service", "notify.conf", text)
}

// notifying are the apps that call sd_notify(3).
func notifying(p *poddir.Pod, all []*app) (apps []*app, err error) {
	for _, a := range all {
		notifies := a.prepared != nil && stage1.Notifies(a.prepared)
		if a.prepared == nil {
			text, err := os.ReadFile(unitPath(p, a.name+".service"))
			if err != nil {
				return nil, err
			}
			notifies = bytes.Contains(text, []byte("\nType=notify\n"))
		}
		if notifies {
			apps = append(apps, a)
		}
	}
	return apps, nil
}

// property asks the host's systemd for a setting of a unit; "" if there is no answer soon.
func property(unit, name string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := program.Command(ctx, "systemctl", "show", "--property="+name, "--value", "--", unit).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// setProperty has the host's systemd change a setting NAME=VALUE of a unit until the next boot.
func setProperty(unit, setting string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return program.Command(ctx, "systemctl", "set-property", "--runtime", "--", unit, setting).Run()
}
