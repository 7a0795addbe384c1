package host

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/inside"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
)

// StreamsUnit is the unit that reads what the apps of the pod print, if their output goes to the
// log, and what they say by syslog(3). The first byte starts it.
const StreamsUnit = "streams@pod.service"

// pipeSize is twice what the longest line takes: how much a pipe holds of it depends on the sizes
// of the writes, and is half at least.
const pipeSize = "128K"

// streamsSocket is the unit that makes the pipes of an app. No app's unit has an @ in its name.
func (a app) streamsSocket() string { return "streams@" + a.Name + ".socket" }

func (a app) streamPath(name string) string { return streams.Dir + "/" + a.Name + "/" + name }

// pipes are the names of the app's pipes.
func (a app) pipes() (names []string) {
	if a.Stdout.IsLog() || a.Stderr.IsLog() {
		names = append(names, streams.Output)
	}
	if a.Health != nil {
		names = append(names, streams.Health)
	}
	return names
}

// hasStreams reports whether anything of the app is read.
func (a app) hasStreams() bool { return len(a.pipes()) > 0 || a.hasJournal() }

// hasJournal reports whether the app has sockets of a journal.
func (a app) hasJournal() bool { return len(a.Name) <= streams.MaxName }

// hasSyslog reports whether the app's /dev/log is the pod's, and not a volume.
func (a app) hasSyslog() bool {
	return a.hasJournal() && !slices.ContainsFunc(a.Volumes, func(volume string) bool {
		return stage1.IsIn("/dev/"+streams.Syslog, volume)
	})
}

// syslogPath is that socket as the pod's systemd sees it.
func (a app) syslogPath() string { return streams.DevDir + "/" + a.Name + "/" + streams.Syslog }

// mounts are what the app has of the pod's systemd.
func (a app) mounts() (mounts []specs.Mount) {
	if a.Notify {
		mounts = append(mounts, specs.Mount{Destination: inside.PodNotify, Type: "bind", Source: inside.PodNotify,
			Options: []string{"rbind"}})
	}
	return append(mounts, a.journalMounts()...)
}

// notifies reports whether the app with this configuration, as prepared, calls sd_notify(3).
func notifies(prepared *specs.Spec) bool {
	return slices.ContainsFunc(prepared.Mounts, func(m specs.Mount) bool { return m.Destination == inside.PodNotify })
}

// journalMounts are the sockets of the pod's journal, where programs look for them. An app that has
// them as a volume, or whose image has no place for them, goes without.
func (a app) journalMounts() []specs.Mount {
	options := []string{"bind", "nofail"}
	if !a.hasJournal() {
		return nil
	}
	const dir = "/run/systemd/journal/"
	return []specs.Mount{
		{Destination: dir + "socket", Type: "bind", Source: a.streamPath(streams.Journal), Options: options},
		{Destination: dir + "stdout", Type: "bind", Source: dir + "stdout", Options: options},
	}
}

// streamUnits are the units that make and read the pipes. Standard output and error are a named
// pipe, which rkt-stage2 gives to the app's user, so that it can open /dev/stdout; any other user
// of the app can, too. Nothing stops them before the pod's end, when the recorder has read the
// rest.
//
// The reader keeps all the capabilities of the pod's systemd, see attachService; and with
// CAP_SYS_ADMIN it speaks in the app's name.
func streamUnits(uuid string, apps []app) map[string]*unit {
	units := map[string]*unit{}
	var sockets []string
	for _, app := range apps {
		if !app.hasStreams() {
			continue
		}
		sockets = append(sockets, app.streamsSocket())
		u := section("Unit", "Description=Output of "+app.Name, "DefaultDependencies=no", "IgnoreOnIsolate=yes",
			"StartLimitIntervalSec=0").
			with("Socket", "TriggerLimitIntervalSec=0", "Slice=-.slice", "SocketMode=0666", "PipeSize="+pipeSize,
				"Service="+StreamsUnit)
		for _, pipe := range app.pipes() {
			u.add("Socket", "ListenFIFO="+app.streamPath(pipe))
		}
		if app.hasSyslog() {
			u.add("Socket", "ListenDatagram="+app.syslogPath())
		}
		if app.hasJournal() {
			u.add("Socket", "PassCredentials=yes", "ListenDatagram="+app.streamPath(streams.Journal),
				"ListenDatagram="+app.streamPath(streams.Ended))
		}
		units[app.streamsSocket()] = u
	}
	if len(sockets) > 0 {
		units[StreamsUnit] = section("Unit", "Description=Reader of what apps print", "DefaultDependencies=no",
			"Requires=systemd-journald.socket", "After=systemd-journald.socket", "IgnoreOnIsolate=yes",
			"StartLimitIntervalSec=0").
			with("Service", "Slice=-.slice", "Sockets="+strings.Join(sockets, " "),
				"ExecStart="+stage1.Stage2+" streams "+uuid, "Environment=GOMAXPROCS=1", "StandardOutput=null",
				"StandardError=journal")
	}
	return units
}
