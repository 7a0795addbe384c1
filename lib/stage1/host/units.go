package host

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/recorder"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
)

// UnitPath is where the pod's systemd looks for units, below its root, and nowhere else: the
// distribution's are for hosts.
const UnitPath = "/etc/systemd/system"

// end is the unit that records how an app has ended, in the app's name. It is no ExecStopPost= of
// the app's unit, which would be run, with all the power of the pod's systemd, in the environment
// that the image asks for. Before= holds the end of the pod up for it; in a slice of its own,
// unlike the root, it would end with that. There are two such units because systemd sets $MONITOR_…
// (systemd.exec(5)) only where one dependency can have triggered the unit.
//
// Its exit status is the pod's (FailureAction=), unless the pod is ending already: then "stopped"
// knows it. One that can't run, or that systemd can't even make a process for, leaves no note of a
// failure: lost@pod.service is for that. With KillMode=process, the unit is failed at the moment at
// which its job is done, for which the end of the pod waits; else systemd may wait for its cgroup
// in between.
func end() *unit {
	return section("Unit", "Description=End of app %i", "DefaultDependencies=no", "After=asked@pod.service",
		beforeEnds, "FailureAction=exit", "OnFailure=lost@pod.service").
		with("Service", "Type=oneshot", "Slice=-.slice", "ExecStart="+stage1.Stage2+" ended %i",
			"KillMode=process", "StandardOutput=null", "StandardError=journal", "SyslogIdentifier=%i")
}

// done ends the pod when no app runs. It waits for the recorders, which may know of a failure: a
// pod that is about to end takes no other status.
func done(recorders []string) *unit {
	return section("Unit", "Description=All apps have ended", "DefaultDependencies=no",
		"After="+strings.Join(recorders, " "), "SuccessAction=exit").
		with("Service", "Type=oneshot", "Slice=-.slice")
}

const beforeEnds = "Before=end-exit.service end-halt.service end-poweroff.service end-ctrl-alt-del.service " +
	"end-reboot.service"

// base holds the units that every pod has. Targets and services of shutting down are here because
// without them the pod would never end; what they start is a function of systemd, not a process.
// What apps depend on has no limit of starts: an app that may kill it could have the pod's systemd
// give it up, and with it another app's log (systemd.unit(5), systemd.socket(5)).
func base() map[string]*unit {
	return map[string]*unit{
		"app-succeeded@.service": end(),
		"app-failed@.service":    end(),
		// Ends the pod with a failure where an app may have failed, and nobody could record it. It
		// does so at once: a pod that is about to end takes no other status. In a slice of its own,
		// it would be cancelled by that end.
		"lost@pod.service": section("Unit", "Description=End of an app that nobody has recorded",
			"DefaultDependencies=no", "ConditionPathExists=!"+recorder.FailedFile, beforeEnds,
			"SuccessAction=exit-force", "SuccessActionExitStatus=255").
			with("Service", "Type=oneshot", "Slice=-.slice"),
		// Started along with the ways to end that somebody has to ask for. What it notes, the end
		// of an app waits for.
		"asked@pod.service": section("Unit", "Description=The pod is asked to stop", "DefaultDependencies=no").
			with("Service", "Type=oneshot", "Slice=-.slice",
				"ExecStart="+stage1.Stage2+" asked", "StandardOutput=null", "StandardError=journal"),
		// Started by the sockets that package run makes for apps that call sd_notify(3), when it is
		// any use (see there).
		"rkt-notify.service": section("Unit", "Description=Notifications of the apps", "DefaultDependencies=no",
			"StartLimitIntervalSec=0", "Conflicts=shutdown.target", "Before=shutdown.target").
			with("Service", "Slice=-.slice", "ExecStart=/rkt/notify", "StandardOutput=null",
				"StandardError=journal"),
		// The pod ends well when no app needs it any more. See done.
		"pod.target": section("Unit", "Description=Pod", "DefaultDependencies=no",
			"Conflicts=shutdown.target", "StopWhenUnneeded=yes", "OnSuccess=done@pod.service"),
		"shutdown.target": section("Unit", "Description=Shutdown", "DefaultDependencies=no",
			"RefuseManualStart=yes"),
		"systemd-journald.socket": section("Unit", "Description=Journal Socket", "DefaultDependencies=no",
			"IgnoreOnIsolate=yes", "StartLimitIntervalSec=0").
			with("Socket", "TriggerLimitIntervalSec=0",
				"ListenStream=/run/systemd/journal/stdout", "ListenDatagram=/run/systemd/journal/socket",
				"SocketMode=0666", "PassCredentials=yes", "PassSecurity=yes", "ReceiveBuffer=8M",
				"Service=systemd-journald.service"),
		// "flushed" tells journald to write to /var/log/journal from the start, as "journalctl
		// --flush" does on a host.
		"systemd-journald-dev-log.socket": section("Unit", "Description=Journal Socket (/dev/log)",
			"DefaultDependencies=no", "IgnoreOnIsolate=yes", "StartLimitIntervalSec=0").
			with("Socket", "TriggerLimitIntervalSec=0",
				"ListenDatagram=/run/systemd/journal/dev-log",
				"Symlinks=/dev/log /run/systemd/journal/flushed", "SocketMode=0666", "PassCredentials=yes",
				"PassSecurity=yes", "ReceiveBuffer=8M", "Service=systemd-journald.service"),
		"systemd-journald.service": section("Unit", "Description=Journal Service", "DefaultDependencies=no",
			"Requires=systemd-journald.socket systemd-journald-dev-log.socket",
			"After=systemd-journald.socket systemd-journald-dev-log.socket", "IgnoreOnIsolate=yes",
			"StartLimitIntervalSec=0").
			with("Service", "Type=notify", "ExecStart=/usr/lib/systemd/systemd-journald",
				"Sockets=systemd-journald.socket systemd-journald-dev-log.socket",
				"FileDescriptorStoreMax=4224", "Restart=always", "RestartSec=0", "StandardOutput=null",
				"StandardError=null", "OOMScoreAdjust=-250"),
	}
}

// actions are the ways for a pod to end: exit (an app ended), halt (SIGRTMIN+3: systemctl stop of
// the host's unit, rkt stop), poweroff (machinectl poweroff), ctrl-alt-del (SIGINT: machinectl
// reboot), reboot (systemctl reboot in the pod). All but the first were asked for.
var actions = []struct {
	name, do string
	asked    bool
}{
	{"exit", "exit-force", false},
	{"halt", "exit-force", true},
	{"poweroff", "poweroff-force", true},
	{"ctrl-alt-del", "reboot-force", true},
	{"reboot", "reboot-force", true},
}

// app is an app, as the pod's systemd runs it.
type app struct{ stage1.App }

func wrap(all []stage1.App) (apps []app) {
	for _, a := range all {
		apps = append(apps, app{a})
	}
	return apps
}

// Files gives the files of the pod's root, by absolute path in it. limits are those of all apps
// together.
func Files(uuid string, limits stage1.Resources, all []stage1.App) (map[string][]byte, error) {
	apps := wrap(all)
	journald, err := section("Journal", "Storage=persistent", "RateLimitIntervalSec=0", "SystemMaxFileSize=1M",
		"SystemMaxUse=16M", "ForwardToWall=no").Bytes()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		"/etc/machine-id": []byte(strings.ReplaceAll(uuid, "-", "") + "\n"),
		// A first journal file of 8 MB for each pod would be 800 MB for a hundred.
		"/etc/systemd/journald.conf": journald,
	}
	for name, u := range podUnits(uuid, limits, apps) {
		if files[UnitPath+"/"+name], err = u.Bytes(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, app := range apps {
		path := UnitPath + "/" + app.Name + ".service"
		if _, taken := files[path]; taken {
			return nil, fmt.Errorf("app %q: the name is that of a unit of the pod itself, or of another app", app.Name)
		}
		if err := app.addUnits(files); err != nil {
			return nil, fmt.Errorf("app %q: %w", app.Name, err)
		}
	}
	return files, nil
}

// addUnits adds the files of the app's own units.
func (a app) addUnits(files map[string][]byte) error {
	text, err := a.service()
	if err != nil {
		return err
	}
	files[UnitPath+"/"+a.Name+".service"] = text
	if a.Attachable() {
		if files[UnitPath+"/"+AttachUnit(a.Name)], err = a.attachService().Bytes(); err != nil {
			return err
		}
	}
	if a.Health == nil {
		return nil
	}
	checks, err := a.checks()
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	for name, text := range checks {
		files[UnitPath+"/"+name] = text
	}
	return nil
}

// podUnits gives the units of the pod itself.
func podUnits(uuid string, limits stage1.Resources, apps []app) map[string]*unit {
	units := base()
	// Services are in this slice unless their units say otherwise, as those do that run several
	// processes and are not an app's: an app that uses up the limit does not keep the pod from
	// noting how another one has ended. (journald is where rkt had it.)
	if lines := place.Settings(limits); len(lines) > 0 {
		units["system.slice"] = section("Unit", "Description=The pod").with("Slice", lines...)
	}
	for _, a := range actions {
		service := "end-" + a.name + ".service"
		target := section("Unit", "Description=End of the pod: "+a.name, "DefaultDependencies=no",
			"Requires="+service, "After="+service, "AllowIsolate=yes")
		end := section("Unit", "Description=End of the pod: "+a.name, "DefaultDependencies=no",
			"Requires=shutdown.target", "After=shutdown.target systemd-journald.service",
			"SuccessAction="+a.do, "FailureAction="+a.do).with("Service", "Type=oneshot")
		if a.asked {
			target.add("Unit", "Wants=asked@pod.service")
			end.add("Service", "ExecStart="+stage1.Stage2+" stopped")
		}
		units[a.name+".target"], units[service] = target, end
	}
	// journald is started along with the apps, not by their first line, and the pod does not end
	// before it is up (see "end-" above): what an app that ends at once has said would be lost.
	names, recorders := []string{"systemd-journald.service"}, []string{}
	for _, app := range apps {
		names = append(names, app.Name+".service")
		recorders = append(recorders, "app-succeeded@"+app.Name+".service", "app-failed@"+app.Name+".service")
	}
	units["done@pod.service"] = done(recorders)
	// Requires=: a unit that systemd refuses to load ends the pod at once, where Wants= would let
	// it wait for ever.
	units["default.target"] = section("Unit", "Description=The apps", "DefaultDependencies=no",
		"Conflicts=shutdown.target", "Requires="+strings.Join(names, " "))
	maps.Copy(units, streamUnits(uuid, apps))
	return units
}

// service is the app's unit: when it is started and stopped, and what it may use. What its
// processes are and see is rkt-stage2's, by the app's configuration, so that no string of an image
// is in a unit.
func (a app) service() ([]byte, error) {
	u := unit{}
	u.add("Unit", "Description="+a.Name, "DefaultDependencies=no",
		"Requires=pod.target systemd-journald.socket systemd-journald-dev-log.socket",
		"After=pod.target systemd-journald.socket systemd-journald-dev-log.socket",
		"Conflicts=shutdown.target", "Before=shutdown.target",
		"OnSuccess=app-succeeded@"+a.Name+".service", "OnFailure=app-failed@"+a.Name+".service")
	if a.hasStreams() {
		u.add("Unit", "Requires="+a.streamsSocket(), "After="+a.streamsSocket())
	}
	if a.Health != nil {
		u.add("Unit", "Wants="+a.firstTimer())
	}
	if a.Attachable() {
		u.add("Unit", "Wants="+AttachUnit(a.Name), "After="+AttachUnit(a.Name))
	}
	kind, restart := "exec", []string{"Restart=no"}
	if a.Health != nil && a.Health.OnFailure == stage1.HealthRestart { // see package health
		u.add("Unit", "StartLimitIntervalSec=0")
		restart = []string{"Restart=on-watchdog", "RestartSec=100ms", "WatchdogSignal=SIGKILL", "NotifyAccess=main"}
	}
	if a.Notify {
		kind = "notify"
	}
	u.add("Service", "Type="+kind)
	u.add("Service", restart...)
	u.add("Service", "ExecStart="+a.start(""))
	if a.PreStart != nil {
		u.add("Service", "ExecStartPre="+a.start(stage1.PreStart))
	}
	if a.PostStop != nil {
		u.add("Service", "ExecStopPost="+a.start(stage1.PostStop))
	}
	u.add("Service", a.process()...)
	if a.Notify && a.OwnsPIDs() { // whose parent is the unit's main process
		u.add("Service", "NotifyAccess=all")
	}
	if a.StopSignal != "" {
		u.add("Service", "KillSignal="+a.StopSignal, "SuccessExitStatus="+a.StopSignal)
	}
	u.add("Service", a.standard()...)
	u.add("Service",
		// How long a stop may take is said once, by the host's unit, except for an app of which it
		// is asked.
		"TimeoutStartSec=infinity", "TimeoutStopSec="+a.stopTimeout(),
		"KillMode=mixed")
	return u.Bytes()
}

func (a app) stopTimeout() string {
	if a.StopTimeout == 0 {
		return "infinity"
	}
	return fmt.Sprintf("%ds", a.StopTimeout/time.Second)
}

// start is the command that becomes the app, or runs one of its handlers.
func (a app) start(handler string) string {
	return strings.TrimSuffix(stage1.Stage2+" app "+a.Name+" "+handler, " ")
}

// process are the lines of every process of an app.
func (a app) process() []string {
	lines := []string{"SyslogIdentifier=" + a.Name,
		"IgnoreSIGPIPE=no",
		"TasksMax=infinity", // that of the slice holds, and not the 15 % of a host's that systemd gives a service
		// rkt-stage2 sets those of the app, which may not raise what systemd gives a service in a
		// pod with users of its own.
		"LimitNOFILE=infinity", "LimitMEMLOCK=infinity",
	}
	return append(lines, place.Settings(a.Resources)...)
}
