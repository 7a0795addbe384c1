package stage1

import (
	"strings"

	"github.com/rkt-toolkit/rkt/lib/stage2/streams"
)

// StreamsUnit is the unit that reads what apps print, in all apps of the pod whose output goes to the log. The first byte starts it.
const StreamsUnit = "streams@pod.service"

// pipeSize is twice what the longest line takes: how much a pipe holds of it depends on the sizes of the writes, and is half at least.
const pipeSize = "128K"

// streamsSocket is the unit that makes the pipes of an app. No app's unit has an @ in its name.
func (a App) streamsSocket() string { return "streams@" + a.Name + ".socket" }

func (a App) streamPath(name string) string { return streams.Dir + "/" + a.Name + "/" + name }

// pipes are the names of the app's pipes.
func (a App) pipes() (names []string) {
	if a.Stdout.isLog() || a.Stderr.isLog() {
		names = append(names, streams.Output)
	}
	if a.Health != nil {
		names = append(names, streams.Health)
	}
	return names
}

// streamUnits are the units that make and read the pipes. Standard output and error are a named pipe, which rkt-stage2 gives to the app's user, so that it can open
// /dev/stdout; any other user of the app can, too. Nothing stops them before the pod's end, when the recorder has read the rest.
//
// The reader keeps all the capabilities of the pod's systemd, see attachService; and with CAP_SYS_ADMIN it speaks in the app's name.
func streamUnits(uuid string, apps []App) map[string]string {
	units := map[string]string{}
	var sockets []string
	for _, app := range apps {
		pipes := app.pipes()
		if len(pipes) == 0 {
			continue
		}
		sockets = append(sockets, app.streamsSocket())
		text := "[Unit]\nDescription=Output of " + app.Name + "\nDefaultDependencies=no\nIgnoreOnIsolate=yes\nStartLimitIntervalSec=0\n\n" +
			"[Socket]\nTriggerLimitIntervalSec=0\nSlice=-.slice\nSocketMode=0666\nPipeSize=" + pipeSize + "\nService=" + StreamsUnit + "\n"
		for _, pipe := range pipes {
			text += "ListenFIFO=" + app.streamPath(pipe) + "\n"
		}
		units[app.streamsSocket()] = text
	}
	if len(sockets) > 0 {
		units[StreamsUnit] = `[Unit]
Description=Reader of what apps print
DefaultDependencies=no
Requires=systemd-journald.socket
After=systemd-journald.socket
IgnoreOnIsolate=yes
StartLimitIntervalSec=0

[Service]
Slice=-.slice
Sockets=` + strings.Join(sockets, " ") + `
ExecStart=` + Stage2 + ` streams ` + uuid + `
Environment=GOMAXPROCS=1
StandardOutput=null
StandardError=journal
`
	}
	return units
}
