package host

import (
	"cmp"
	"fmt"
	"slices"
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
// after the start period. The check of an app's start comes before, and starts the timer.
func (a app) checks() (map[string][]byte, error) {
	units := checkUnits{app: a, files: map[string]*unit{}}
	h := a.Health
	failed := []string{"StartLimitIntervalSec=0"}
	timer := a.health("timer")
	if h.StartPeriod > 0 {
		watched := "watched@" + a.Name
		units.add(a.firstTimer(), "Unit", "Wants="+watched+".timer")
		units.bind(watched + ".timer")
		units.add(watched+".timer", "Timer", "Unit="+watched+".target", "OnActiveSec="+seconds(h.StartPeriod),
			"AccuracySec=100ms")
		units.bind(watched + ".target")
		failed = append(failed, "Requisite="+watched+".target", "After="+watched+".target")
	}
	units.check(timer, a.health("service"), stage1.HealthCheck, h.Interval, h.Interval, h.Timeout)
	units.add(a.health("service"), "Unit", "OnFailure=unhealthy@"+a.Name+".service",
		"OnSuccess=healthy@"+a.Name+".service")
	units.note("healthy", nil)
	units.note("unhealthy", failed, a.retries(h.Retries)...)
	if s := h.Startup; s != nil {
		startup, check := a.firstTimer(), "startup@"+a.Name+".service"
		units.add(timer, "Unit", "Conflicts="+startup)
		units.check(startup, check, stage1.StartupCheck, firstStartup, s.Interval, s.Timeout)
		units.add(check, "Unit", "OnFailure=unstarted@"+a.Name+".service", "OnSuccess=started@"+a.Name+".service")
		units.note("started", []string{"OnSuccess=" + timer}, strconv.Itoa(s.Successes))
		units.note("unstarted", failed, a.retries(s.Retries)...)
	}
	return units.bytes()
}

// firstStartup is how long after the start of an app the first check of its start comes.
const firstStartup = 100 * time.Millisecond

// firstTimer is the timer that the app's start starts.
func (a app) firstTimer() string {
	if a.Health.Startup != nil {
		return "startup@" + a.Name + ".timer"
	}
	return a.health("timer")
}

// retries are what rkt-stage2 is told of an app that fails.
func (a app) retries(n int) []string {
	args := []string{strconv.Itoa(n), string(cmp.Or(a.Health.OnFailure, stage1.HealthKill))}
	if a.Health.OnFailure == stage1.HealthStop && a.StopSignal != "" {
		args = append(args, a.StopSignal)
	}
	return args
}

func seconds(d time.Duration) string { return fmt.Sprintf("%dus", d.Microseconds()) }

// checkUnits are units for the checks of an app.
type checkUnits struct {
	app   app
	files map[string]*unit
}

// add adds lines to a unit, which is there then.
func (c checkUnits) add(name, section string, lines ...string) {
	u := c.files[name]
	if u == nil {
		u = &unit{}
		u.add("Unit", "Description=Health of "+c.app.Name, "DefaultDependencies=no", "Conflicts=shutdown.target",
			"Before=shutdown.target")
		c.files[name] = u
	}
	u.add(section, lines...)
}

// bind has a unit live no longer than the app.
func (c checkUnits) bind(name string, more ...string) {
	c.add(name, "Unit", "BindsTo="+c.app.Name+".service", "After="+c.app.Name+".service")
	c.add(name, "Unit", more...)
}

// check adds a timer and the check that it starts.
func (c checkUnits) check(timer, service, handler string, first, interval, timeout time.Duration) {
	a := c.app
	c.bind(timer)
	c.add(timer, "Timer", "OnActiveSec="+seconds(first), "OnUnitInactiveSec="+seconds(interval), "AccuracySec=100ms")
	c.bind(service, "StartLimitIntervalSec=0")
	c.add(service, "Service", "Type=oneshot", "ExecStart="+a.start(handler), "TimeoutStartSec="+seconds(timeout),
		"KillSignal=SIGKILL")
	c.add(service, "Service", a.process()...)
	// What a check says is in the pod's journal, not among the lines of the app.
	c.add(service, "Service", "StandardOutput=file:"+a.streamPath(streams.Health), "StandardError=file:"+
		a.streamPath(streams.Health))
}

// note adds a unit that notes how a check has ended.
func (c checkUnits) note(what string, lines []string, args ...string) {
	name := what + "@" + c.app.Name + ".service"
	if len(lines) == 0 || !slices.Contains(lines, "StartLimitIntervalSec=0") {
		lines = append([]string{"StartLimitIntervalSec=0"}, lines...)
	}
	c.add(name, "Unit", lines...)
	command := strings.Join(append([]string{stage1.Stage2, what, c.app.Name}, args...), " ")
	c.add(name, "Service", "Type=oneshot", "Slice=-.slice", "ExecStart="+command, "SyslogIdentifier="+c.app.Name,
		"StandardOutput=null", "StandardError=journal")
}

func (c checkUnits) bytes() (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, u := range c.files {
		var err error
		if files[name], err = u.Bytes(); err != nil {
			return nil, err
		}
	}
	return files, nil
}
