package stage1

import (
	"fmt"
	"time"
)

// Health is how to find out whether an app still works, as Docker's HEALTHCHECK has it.
type Health struct {
	Exec        []string      // ends with 0 if the app does
	Interval    time.Duration // between the end of a check, or the app's start, and the next check
	Timeout     time.Duration // of a check, which has failed then
	StartPeriod time.Duration // since the app's start, in which failures do not count
	Retries     int           // how many checks have to fail one after another
}

// healthDir counts, in a file for each app, the checks that failed one after another.
const healthDir = "/run/rkt/health"

// unhealthy is a script that the pod's systemd runs when a check has failed: unhealthy APP RETRIES START-PERIOD-IN-MICROSECONDS. It kills
// the app after so many failures; the pod ends then, and what comes next is the host's unit's affair (Restart=).
const unhealthy = `#!/bin/sh
since=$(/usr/bin/systemctl show --property=ActiveEnterTimestampMonotonic --value "$1.service")
read -r now _ </proc/uptime
test "$((${now%.*}${now#*.}0000 - since))" -ge "$3" || exit 0
mkdir -p ` + healthDir + `
failed=0
test ! -e "` + healthDir + `/$1" || read -r failed <"` + healthDir + `/$1"
failed=$((failed + 1))
echo "$failed" >"` + healthDir + `/$1"
test "$failed" -ge "$2" || exit 0
echo "unhealthy: $failed checks failed one after another, the app is killed"
exec /usr/bin/systemctl kill --signal=KILL "$1.service"
`

// health is the name of a unit of the app's health check. No app's unit has an @ in its name.
func (a App) health(kind string) string { return "health@" + a.Name + "." + kind }

// checks are the units that check the app's health: a timer, the check, and what is done when it has failed and when it has not.
func (a App) checks() (map[string][]byte, error) {
	exec, err := a.exec(a.Health.Exec)
	if err != nil {
		return nil, err
	}
	process, err := a.process()
	if err != nil {
		return nil, err
	}
	units := map[string]*unit{}
	add := func(name, section string, lines ...string) {
		u := units[name]
		if u == nil {
			u = &unit{}
			u.add("Unit", "Description=Health of "+a.Name, "DefaultDependencies=no", "Conflicts=shutdown.target", "Before=shutdown.target")
			units[name] = u
		}
		u.add(section, lines...)
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%dus", d.Microseconds()) }
	timer, check := a.health("timer"), a.health("service")
	add(timer, "Unit", "BindsTo="+a.Name+".service", "After="+a.Name+".service")
	add(timer, "Timer", "OnActiveSec="+seconds(a.Health.Interval), "OnUnitInactiveSec="+seconds(a.Health.Interval), "AccuracySec=100ms")
	add(check, "Unit", "BindsTo="+a.Name+".service", "After="+a.Name+".service", "StartLimitIntervalSec=0",
		"OnFailure=unhealthy@"+a.Name+".service", "OnSuccess=healthy@"+a.Name+".service")
	add(check, "Service", "Type=oneshot", "ExecStart="+exec, "TimeoutStartSec="+seconds(a.Health.Timeout), "KillSignal=SIGKILL")
	add(check, "Service", process...)
	// What a check says is in the pod's journal, not among the lines of the app.
	add(check, "Service", "StandardOutput=journal", "StandardError=journal")
	for name, command := range map[string]string{
		"healthy@":   "/bin/rm -f " + healthDir + "/" + a.Name,
		"unhealthy@": fmt.Sprintf("/bin/sh /rkt/unhealthy %s %d %d", a.Name, a.Health.Retries, a.Health.StartPeriod.Microseconds()),
	} {
		name += a.Name + ".service"
		add(name, "Unit", "StartLimitIntervalSec=0")
		add(name, "Service", "Type=oneshot", "Slice=system.slice", "ExecStart="+command, "SyslogIdentifier="+a.Name,
			"StandardOutput=journal+console", "StandardError=journal")
	}
	files := map[string][]byte{}
	for name, u := range units {
		if files[name], err = u.Bytes(); err != nil {
			return nil, err
		}
	}
	return files, nil
}
