package host

import (
	"strings"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
)

// AttachUnit is the unit of rkt-attach that serves an app; there is one if the app is Attachable.
// No app's unit has an @ in its name.
func AttachUnit(app string) string { return "attach@" + app + ".service" }

func (a app) attachPath(name string) string { return stage1.AttachDir + "/" + a.Name + "/" + name }

// standard are the lines of systemd.exec(5) for standard input, output and error, of the app and of
// what runs before and after it.
func (a app) standard() (lines []string) {
	switch a.Stdin {
	case stage1.TTY:
		lines = append(lines, "StandardInput=tty", "SendSIGHUP=yes") // only SIGHUP ends an interactive shell
	case stage1.Attached:
		lines = append(lines, "StandardInput=file:"+a.attachPath(stage1.StdinPipe))
	}
	if a.HasTerminal() {
		lines = append(lines, "TTYPath="+a.attachPath(stage1.TerminalLink))
	}
	for _, output := range []struct {
		setting, pipe string
		to            stage1.Stream
	}{{"StandardOutput=", stage1.StdoutPipe, a.Stdout}, {"StandardError=", stage1.StderrPipe, a.Stderr}} {
		switch output.to {
		case stage1.Null, stage1.TTY:
			lines = append(lines, output.setting+string(output.to))
		case stage1.Attached:
			lines = append(lines, output.setting+"file:"+a.attachPath(output.pipe))
		default:
			lines = append(lines, output.setting+"file:"+a.streamPath(streams.Output))
		}
	}
	return lines
}

// attachService starts rkt-attach before the app, and it is stopped when the app has ended: since
// the app is After= it, and nothing else needs it. What it has open is kept by the pod's systemd,
// so that one that is killed can be started again without harm to the app.
//
// It keeps all the capabilities of the pod's systemd, of which it needs none: an app that runs as
// root may look into the processes of root's that have no more capabilities than it has
// (ptrace(2)), and through /proc/PID/root find the pod's files.
func (a app) attachService() *unit {
	args := append([]string{stage1.AttachFile, "--serve", a.Name}, a.Served()...)
	return section("Unit", "Description=rkt-attach server for app "+a.Name, "DefaultDependencies=no",
		"StopWhenUnneeded=yes", "StartLimitIntervalSec=0", "Conflicts=shutdown.target", "Before=shutdown.target").
		with("Service", "Type=notify", "Slice=-.slice", "ExecStart="+strings.Join(args, " "),
			"FileDescriptorStoreMax=8", "Restart=always", "RestartSec=100ms", "TimeoutStopSec=3s",
			"StandardOutput=null", "StandardError=journal")
}
