package host

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
)

// health is the name of a unit of the app's health check. No app's unit has an @ in its name.
func (a app) health(kind string) string { return "health@" + a.Name + "." + kind }

// checks are the units that check the app's health: a timer, the check, and what is done when it
// has failed and when it has not. A failed check counts only once watched@APP.target is reached,
// after the start period.
func (a app) checks() (map[string][]byte, error) {
	units := map[string]*unit{}
	add := func(name, section string, lines ...string) {
		u := units[name]
		if u == nil {
			u = &unit{}
			u.add("Unit", "Description=Health of "+a.Name, "DefaultDependencies=no", "Conflicts=shutdown.target",
				"Before=shutdown.target")
			units[name] = u
		}
		u.add(section, lines...)
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%dus", d.Microseconds()) }
	timer, check := a.health("timer"), a.health("service")
	add(timer, "Unit", "BindsTo="+a.Name+".service", "After="+a.Name+".service")
	failed := []string{"StartLimitIntervalSec=0"}
	if a.Health.StartPeriod > 0 {
		watched := "watched@" + a.Name
		add(timer, "Unit", "Wants="+watched+".timer")
		add(watched+".timer", "Unit", "BindsTo="+a.Name+".service", "After="+a.Name+".service")
		add(watched+".timer", "Timer", "Unit="+watched+".target", "OnActiveSec="+seconds(a.Health.StartPeriod),
			"AccuracySec=100ms")
		add(watched+".target", "Unit", "BindsTo="+a.Name+".service", "After="+a.Name+".service")
		failed = append(failed, "Requisite="+watched+".target", "After="+watched+".target")
	}
	add(timer, "Timer", "OnActiveSec="+seconds(a.Health.Interval), "OnUnitInactiveSec="+seconds(a.Health.Interval),
		"AccuracySec=100ms")
	add(check, "Unit", "BindsTo="+a.Name+".service", "After="+a.Name+".service", "StartLimitIntervalSec=0",
		"OnFailure=unhealthy@"+a.Name+".service", "OnSuccess=healthy@"+a.Name+".service")
	add(check, "Service", "Type=oneshot", "ExecStart="+a.start(stage1.HealthCheck), "TimeoutStartSec="+
		seconds(a.Health.Timeout), "KillSignal=SIGKILL")
	add(check, "Service", a.process()...)
	// What a check says is in the pod's journal, not among the lines of the app.
	add(check, "Service", "StandardOutput=file:"+a.streamPath(streams.Health), "StandardError=file:"+
		a.streamPath(streams.Health))
	add("healthy@"+a.Name+".service", "Unit", "StartLimitIntervalSec=0")
	add("unhealthy@"+a.Name+".service", "Unit", failed...)
	for name, args := range map[string]string{"healthy@": "", "unhealthy@": " " + strconv.Itoa(a.Health.Retries)} {
		command := stage1.Stage2 + " " + strings.TrimSuffix(name, "@") + " " + a.Name + args
		add(name+a.Name+".service", "Service", "Type=oneshot", "Slice=-.slice", "ExecStart="+command,
			"SyslogIdentifier="+a.Name, "StandardOutput=null", "StandardError=journal")
	}
	files := map[string][]byte{}
	for name, u := range units {
		var err error
		if files[name], err = u.Bytes(); err != nil {
			return nil, err
		}
	}
	return files, nil
}
