package run

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/systemd"
)

// hostNotify is where the pod's systemd has the host's notification socket, which no app can see.
const hostNotify = "/run/rkt/host-notify"

// notifications prepares that what the apps say by sd_notify(3) reaches the unit that this process is in: that the pod is ready
// systemd-nspawn tells, the rest is rkt-notify's if the unit listens to it (NotifyAccess=all). Where it does not, the pod's own systemd
// looks after the unit's WatchdogSec=, and systemd-nspawn says for itself that it is alive. It returns the environment of systemd-nspawn
// and further arguments.
func notifications(p *pod.Pod, env []string) (changed, options []string, err error) {
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
	apps, err := notifying(p)
	if err != nil || len(apps) == 0 {
		return env, nil, err
	}
	if property(unit, "NotifyAccess") != "all" {
		for _, app := range apps {
			if watchdog == "" {
				continue
			}
			if err := dropIn(p, app+".service", "watchdog.conf", "[Service]\nWatchdogSec="+watchdog+"us\n"); err != nil {
				return nil, nil, err
			}
		}
		return env, nil, nil
	}
	program, err := cli.Sibling("rkt-notify")
	if err != nil {
		return nil, nil, err
	}
	for _, app := range apps {
		unit := app + "-notify.socket"
		text := "[Unit]\nDescription=Notifications of " + app + "\nDefaultDependencies=no\nConflicts=shutdown.target\nBefore=shutdown.target\n\n[Socket]\n" +
			"ListenDatagram=/run/rkt/notify/" + app + "\nPassCredentials=yes\nSocketMode=0666\nFileDescriptorName=" + app + "\nService=rkt-notify.service\n"
		if err := os.WriteFile(unitPath(p, unit), []byte(text), 0o644); err != nil {
			return nil, nil, err
		}
		text = "[Unit]\nRequires=" + unit + "\nAfter=" + unit + "\n\n[Service]\nBindPaths=/run/rkt/notify/" + app + ":/run/rkt/notify\nEnvironment=NOTIFY_SOCKET=/run/rkt/notify\n"
		if watchdog != "" {
			text += "Environment=WATCHDOG_USEC=" + watchdog + "\n"
		}
		if err := dropIn(p, app+".service", "notify.conf", text); err != nil {
			return nil, nil, err
		}
	}
	var sockets []string
	for _, app := range apps {
		sockets = append(sockets, app+"-notify.socket")
	}
	if err := dropIn(p, "rkt-notify.service", "sockets.conf", "[Service]\nSockets="+strings.Join(sockets, " ")+"\n"); err != nil {
		return nil, nil, err
	}
	return changed, []string{"--bind-ro=" + program + ":/rkt/notify", "--bind=" + socket + ":" + hostNotify}, nil
}

// notifying are the apps that call sd_notify(3).
func notifying(p *pod.Pod) (apps []string, err error) {
	all, err := os.ReadDir(p.Path(pod.AppsDir))
	if err != nil {
		return nil, err
	}
	for _, app := range all {
		text, err := p.ReadFile(pod.RootDir + stage1.UnitPath + "/" + app.Name() + ".service")
		if err != nil {
			return nil, err
		}
		if bytes.Contains(text, []byte("\nType=notify\n")) {
			apps = append(apps, app.Name())
		}
	}
	return apps, nil
}

// property asks the host's systemd for a setting of a unit; "" if there is no answer soon.
func property(unit, name string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property="+name, "--value", "--", unit).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
