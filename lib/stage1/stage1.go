// Package stage1 is what stands between the host and the apps of a pod: the root of the pod's own systemd, its unit files, and
// the command line of systemd-nspawn that starts it. The functions here are pure; who writes the files is package prepare, who
// mounts and executes is package run.
//
// This is the flavor "host": the root has the host's own /usr, read-only, so there is nothing to download and the pod's init is
// as well patched as the host.
package stage1

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/rkt-toolkit/rkt/lib/unitfile"
	"golang.org/x/sys/unix"
)

// App is an app with everything resolved: names of users to numbers, the program to an absolute path in the app's root.
type App struct {
	Name              string
	Exec              []string
	PreStart          []string // run to its end before the app; may be nil
	PostStop          []string // run when the app has ended; may be nil
	UID, GID          uint32
	SupplementaryGIDs []uint32
	WorkingDir        string
	Environment       []Variable
	Capabilities      []string // the bounding set, as CAP_… names; none is none
	StopSignal        string   // "" is SIGTERM
	Notify            bool     // the app calls sd_notify(3) itself
	AllPaths          bool     // /proc and /sys as the kernel has them
	Stdin             Stream   // "" is Null
	Stdout, Stderr    Stream   // "" is Log
	Health            *Health  // nil is no check
	Isolation
}

// Stream is where an app's standard input comes from, or where what it prints goes.
type Stream string

// StreamAnnotation and the word stdin, stdout or stderr is the name of rkt's annotation, in a pod's manifest, that has an app's Stream.
const StreamAnnotation = "coreos.com/rkt/stage2/"

// The values of a Stream, as rkt named them.
const (
	Log      Stream = "log" // into the pod's journal, and to the standard output of the pod; no input
	Null     Stream = "null"
	TTY      Stream = "tty"    // a terminal of the app's own, for rkt-attach
	Attached Stream = "stream" // a pipe, for rkt-attach
)

// Attachable tells whether rkt-attach has to serve the app in the pod.
func (a App) Attachable() bool {
	for _, s := range []Stream{a.Stdin, a.Stdout, a.Stderr} {
		if s == TTY || s == Attached {
			return true
		}
	}
	return false
}

// AttachFile is rkt-attach, seen by the pod's systemd, and AttachDir the folder that has a folder for each app that it serves.
const (
	AttachFile = "/rkt/attach"
	AttachDir  = "/run/rkt/attach"
)

// Names in an app's folder in AttachDir. A pipe is there if the stream is Attached, the link to the terminal if one of them is TTY.
const (
	StdinPipe    = "stdin"
	StdoutPipe   = "stdout"
	StderrPipe   = "stderr"
	TerminalLink = "tty"
	AttachSocket = "socket"
)

// Isolation is what an app may do and use, apart from capabilities. Zero values limit nothing.
type Isolation struct {
	Seccomp         Seccomp
	NoNewPrivileges bool
	SELinuxContext  string
	AppArmorProfile string
	OOMScoreAdj     *int
	CPUWeight       uint64 // 1 to 10000
	CPUMilli        uint64 // thousandths of a processor
	MemoryMax       uint64 // bytes
	BlockBandwidth  uint64 // bytes a second, read and written each
	BlockIOPS       uint64 // operations a second, likewise
}

// Seccomp is a filter of system calls, by the names of systemd.exec(5). Without Calls there is none.
type Seccomp struct {
	Retain bool // only these may be called, else all but these
	Calls  []string
	Errno  string // what another call ends with; "" kills
}

// Variable is one environment variable.
type Variable struct{ Name, Value string }

// Launcher is rkt-exec, seen by an app that is started by it, and LauncherFile by the pod's systemd.
const (
	Launcher     = "/dev/rkt-exec"
	LauncherFile = "/rkt/exec"
)

// Launched tells whether the app has variables that systemd does not pass on, so that rkt-exec has to.
func (a App) Launched() bool { return len(a.odd()) > 0 }

// odd are the variables that systemd does not pass on, as NAME=VALUE.
func (a App) odd() (list []string) {
	for _, v := range a.Environment {
		if !unitfile.ValidVariable(v.Name) {
			list = append(list, v.Name+"="+v.Value)
		}
	}
	return list
}

// exec is the value of an ExecStart= line that starts a program in the app.
func (a App) exec(argv []string) (string, error) {
	if odd := a.odd(); len(odd) > 0 && len(argv) > 0 {
		argv = slices.Concat([]string{Launcher}, odd, []string{"--"}, argv)
	}
	return unitfile.Exec(argv)
}

// UnitPath is where the pod's systemd looks for units, below its root, and nowhere else: the distribution's are for hosts.
const UnitPath = "/etc/systemd/system"

// AppRoot is an app's root, seen from the pod's systemd.
func AppRoot(app string) string { return "/opt/stage2/" + app + "/rootfs" }

// stopped is a script that the pod's systemd runs when an app has ended (see recorder). It reads what the app has written to /dev/stdout
// and nobody has read yet, and leaves the app's exit status in a file, 128+n
// for death by signal n, and, if the app failed, ends the pod with that status: systemd's own FailureAction=exit has 255 for every
// signal. An app that dies of the signal that asks it to stop has not failed (systemd.service(5), "SuccessExitStatus="). One that its
// socket would have started a second time (see package run) has ended before.
func stopped() string {
	signals := ""
	for n := range syscall.Signal(32) {
		if name := strings.TrimPrefix(unix.SignalName(n), "SIG"); name != "" {
			signals += fmt.Sprintf("\t%s) status=%d ;;\n", name, 128+n)
		}
	}
	return `#!/bin/sh
test "$MONITOR_SERVICE_RESULT" != start-limit-hit || exit 0
dd if="` + stdoutDir + `/$1" iflag=nonblock bs=64k status=none 2>/dev/null
status=255
case $MONITOR_EXIT_CODE in
exited) status=$MONITOR_EXIT_STATUS ;;
killed | dumped)
	case $MONITOR_EXIT_STATUS in
` + signals + `	esac ;;
esac
echo "$status" >"/rkt/status/.$1" && mv "/rkt/status/.$1" "/rkt/status/$1"
if test "$MONITOR_SERVICE_RESULT" != success; then
	test "$status" != 0 || status=255
	exec /usr/bin/systemctl --quiet exit "$status" 2>/dev/null
fi
`
}

// stdoutDir has the pipe of each app that is its /dev/stdout and /dev/stderr.
const stdoutDir = "/run/rkt/stdout"

// StandardFiles are the paths in an app's /dev where that pipe is mounted.
var StandardFiles = []string{"/dev/stdout", "/dev/stderr"}

// Binds are what every app has of the pod.
const Binds = "/proc /sys /dev/console /dev/pts /dev/shm /dev/mqueue"

// hiddenPaths tell too much of the host, or change it: root in a pod is the host's root to /proc/sysrq-trigger. systemd-nspawn means to
// hide some of them, and does not in its version 252: what it would mount over them is not there yet.
const hiddenPaths = "-+/proc/acpi -+/proc/asound -+/proc/config.gz -+/proc/kallsyms -+/proc/kcore -+/proc/keys -+/proc/kmem " +
	"-+/proc/kpagecgroup -+/proc/kpagecount -+/proc/kpageflags -+/proc/latency_stats -+/proc/mem -+/proc/sched_debug -+/proc/scsi " +
	"-+/proc/sysrq-trigger -+/proc/timer_list -+/proc/timer_stats " +
	"-+/sys/firmware -+/sys/fs/bpf -+/sys/fs/pstore -+/sys/hypervisor -+/sys/module -+/sys/power -+/sys/devices/virtual/powercap"

// recorder runs that script. It is no ExecStopPost= of the app's unit, which would be run, with all the power of the pod's systemd, in
// the environment that the image asks for. Before= holds the end of the pod up for it; in a slice of its own it would end with that.
// There are two such units because systemd sets $MONITOR_… (systemd.exec(5)) only where one dependency can have triggered the unit.
const recorder = `[Unit]
Description=End of app %i
DefaultDependencies=no
Before=end-exit.service end-halt.service end-poweroff.service end-ctrl-alt-del.service end-reboot.service

[Service]
Type=oneshot
Slice=system.slice
ExecStart=/bin/sh /rkt/app-stopped %i
StandardOutput=journal+console
StandardError=null
SyslogIdentifier=%i
`

// base holds the units that every pod has. Targets and services of shutting down are here because without them the pod would
// never end; what they start is a function of systemd, not a process.
var base = map[string]string{
	"app-succeeded@.service": recorder,
	"app-failed@.service":    recorder,
	// Standard output is a socket of the journal's, which can't be opened by a path. Who opens /dev/stdout or /dev/stderr gets a pipe instead,
	// and the first that writes there starts who reads it. Nothing stops them before the pod's end, when the recorder has read the rest.
	"stdout@.socket": `[Unit]
Description=/dev/stdout of app %i
DefaultDependencies=no
IgnoreOnIsolate=yes

[Socket]
Slice=system.slice
ListenFIFO=` + stdoutDir + `/%i
SocketMode=0666
`,
	"stdout@.service": `[Unit]
Description=/dev/stdout of app %i
DefaultDependencies=no
Requires=systemd-journald.socket
After=systemd-journald.socket
IgnoreOnIsolate=yes

[Service]
Slice=system.slice
ExecStart=/bin/cat
StandardInput=socket
StandardOutput=journal+console
StandardError=null
SyslogIdentifier=%i
`,
	// Started by the sockets that package run makes for apps that call sd_notify(3), when it is any use (see there).
	"rkt-notify.service": `[Unit]
Description=Notifications of the apps
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Slice=system.slice
ExecStart=/rkt/notify
StandardOutput=null
StandardError=journal
`,
	// The pod ends well when no app needs it any more.
	"pod.target": `[Unit]
Description=Pod
DefaultDependencies=no
Conflicts=shutdown.target
StopWhenUnneeded=yes
SuccessAction=exit
`,
	"shutdown.target": `[Unit]
Description=Shutdown
DefaultDependencies=no
RefuseManualStart=yes
`,
	"systemd-journald.socket": `[Unit]
Description=Journal Socket
DefaultDependencies=no
IgnoreOnIsolate=yes

[Socket]
ListenStream=/run/systemd/journal/stdout
ListenDatagram=/run/systemd/journal/socket
SocketMode=0666
PassCredentials=yes
PassSecurity=yes
ReceiveBuffer=8M
Service=systemd-journald.service
`,
	// "flushed" tells journald to write to /var/log/journal from the start, as "journalctl --flush" does on a host.
	"systemd-journald-dev-log.socket": `[Unit]
Description=Journal Socket (/dev/log)
DefaultDependencies=no
IgnoreOnIsolate=yes

[Socket]
ListenDatagram=/run/systemd/journal/dev-log
Symlinks=/dev/log /run/systemd/journal/flushed
SocketMode=0666
PassCredentials=yes
PassSecurity=yes
ReceiveBuffer=8M
Service=systemd-journald.service
`,
	"systemd-journald.service": `[Unit]
Description=Journal Service
DefaultDependencies=no
Requires=systemd-journald.socket systemd-journald-dev-log.socket
After=systemd-journald.socket systemd-journald-dev-log.socket
IgnoreOnIsolate=yes

[Service]
Type=notify
ExecStart=/usr/lib/systemd/systemd-journald
Sockets=systemd-journald.socket systemd-journald-dev-log.socket
FileDescriptorStoreMax=4224
Restart=always
RestartSec=0
StandardOutput=null
StandardError=null
OOMScoreAdjust=-250
`,
}

// actions are the ways for a pod to end: exit (an app ended), halt (SIGRTMIN+3: systemctl stop of the host's unit), poweroff
// (machinectl poweroff), ctrl-alt-del (SIGINT: machinectl reboot), reboot (systemctl reboot in the pod).
var actions = []struct{ name, do string }{
	{"exit", "exit-force"}, {"halt", "exit-force"}, {"poweroff", "poweroff-force"}, {"ctrl-alt-del", "reboot-force"}, {"reboot", "reboot-force"},
}

// Files gives the files of the pod's root, by absolute path in it. limits are those of all apps together.
func Files(uuid string, limits Isolation, apps []App) (map[string][]byte, error) {
	files := map[string][]byte{
		"/etc/machine-id": []byte(strings.ReplaceAll(uuid, "-", "") + "\n"),
		"/etc/passwd":     passwd(apps),
		"/etc/group":      group(apps),
		// A first journal file of 8 MB for each pod would be 800 MB for a hundred.
		"/etc/systemd/journald.conf": []byte("[Journal]\nStorage=persistent\nSystemMaxFileSize=1M\nSystemMaxUse=16M\n"),
		"/rkt/app-stopped":           []byte(stopped()),
	}
	units := map[string]string{}
	for name, text := range base {
		units[name] = text
	}
	if lines := limits.settings(); len(lines) > 0 { // systemd's own choice for services
		units["system.slice"] = "[Unit]\nDescription=The pod\n\n[Slice]\n" + strings.Join(lines, "\n") + "\n"
	}
	for _, a := range actions {
		units[a.name+".target"] = "[Unit]\nDescription=End of the pod: " + a.name + "\nDefaultDependencies=no\n" +
			"Requires=end-" + a.name + ".service\nAfter=end-" + a.name + ".service\nAllowIsolate=yes\n"
		units["end-"+a.name+".service"] = "[Unit]\nDescription=End of the pod: " + a.name + "\nDefaultDependencies=no\n" +
			"Requires=shutdown.target\nAfter=shutdown.target systemd-journald.service\nSuccessAction=" + a.do + "\n\n[Service]\nType=oneshot\n"
	}
	// journald is started along with the apps, not by their first line, and the pod does not end before it is up (see "end-" above):
	// what an app that ends at once has said would be lost.
	names := []string{"systemd-journald.service"}
	for _, app := range apps {
		names = append(names, app.Name+".service")
	}
	// Requires=: a unit that systemd refuses to load ends the pod at once, where Wants= would let it wait for ever.
	units["default.target"] = "[Unit]\nDescription=The apps\nDefaultDependencies=no\nConflicts=shutdown.target\nRequires=" +
		strings.Join(names, " ") + "\n"
	for name, text := range units {
		files[UnitPath+"/"+name] = []byte(text)
	}
	for _, app := range apps {
		path := UnitPath + "/" + app.Name + ".service"
		if _, taken := files[path]; taken {
			return nil, fmt.Errorf("app %q: the name is that of a unit of the pod itself, or of another app", app.Name)
		}
		text, err := app.service()
		if err != nil {
			return nil, fmt.Errorf("app %q: %w", app.Name, err)
		}
		files[path] = text
		if app.Attachable() {
			files[UnitPath+"/"+AttachUnit(app.Name)] = app.attachService()
		}
		if app.Health == nil {
			continue
		}
		files["/rkt/unhealthy"] = []byte(unhealthy)
		checks, err := app.checks()
		if err != nil {
			return nil, fmt.Errorf("app %q: health check: %w", app.Name, err)
		}
		for name, text := range checks {
			files[UnitPath+"/"+name] = text
		}
	}
	return files, nil
}

// passwd and group name every ID that an app runs with: systemd starts nothing for a number that no file has, User=1000 as little as
// User=redis. The names mean nothing; inside of an app the image's own files count.
func passwd(apps []App) []byte {
	lines := map[uint32]string{0: "root:x:0:0:root:/root:/bin/sh\n", 65534: "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"}
	for _, app := range apps {
		if _, ok := lines[app.UID]; !ok {
			lines[app.UID] = fmt.Sprintf("u%d:x:%[1]d:%d::/:/usr/sbin/nologin\n", app.UID, app.GID)
		}
	}
	return inOrder(lines)
}

func group(apps []App) []byte {
	lines := map[uint32]string{0: "root:x:0:\n", 65534: "nogroup:x:65534:\n"}
	for _, app := range apps {
		for _, gid := range append([]uint32{app.GID}, app.SupplementaryGIDs...) {
			if _, ok := lines[gid]; !ok {
				lines[gid] = fmt.Sprintf("g%d:x:%[1]d:\n", gid)
			}
		}
	}
	return inOrder(lines)
}

func inOrder(lines map[uint32]string) []byte {
	text := ""
	for _, id := range slices.Sorted(maps.Keys(lines)) {
		text += lines[id]
	}
	return []byte(text)
}

// service is the app's unit.
func (a App) service() ([]byte, error) {
	exec, err := a.exec(a.Exec)
	if err != nil {
		return nil, err
	}
	u := unit{}
	u.add("Unit", "Description="+a.Name, "DefaultDependencies=no",
		"Requires=pod.target systemd-journald.socket systemd-journald-dev-log.socket stdout@"+a.Name+".socket",
		"After=pod.target systemd-journald.socket systemd-journald-dev-log.socket stdout@"+a.Name+".socket",
		"Conflicts=shutdown.target", "Before=shutdown.target",
		"OnSuccess=app-succeeded@"+a.Name+".service", "OnFailure=app-failed@"+a.Name+".service")
	if a.Health != nil {
		u.add("Unit", "Wants="+a.health("timer"))
	}
	if a.Attachable() {
		u.add("Unit", "Wants="+AttachUnit(a.Name), "After="+AttachUnit(a.Name))
	}
	kind := "exec"
	if a.Notify {
		kind = "notify"
	}
	u.add("Service", "Type="+kind, "Restart=no", "ExecStart="+exec)
	for name, argv := range map[string][]string{"ExecStartPre": a.PreStart, "ExecStopPost": a.PostStop} {
		if argv == nil {
			continue
		}
		handler, err := a.exec(argv)
		if err != nil {
			return nil, err
		}
		u.add("Service", name+"="+handler)
	}
	process, err := a.process()
	if err != nil {
		return nil, err
	}
	u.add("Service", process...)
	if a.StopSignal != "" {
		u.add("Service", "KillSignal="+a.StopSignal)
	}
	u.add("Service", a.standard()...)
	u.add("Service",
		// How long a stop may take is said once, by the host's unit.
		"TimeoutStartSec=infinity", "TimeoutStopSec=infinity",
		"KillMode=mixed")
	return u.Bytes()
}

// unit is a unit file that is given lines.
type unit struct{ unitfile.File }

// add appends lines NAME=VALUE.
func (u *unit) add(section string, lines ...string) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		u.Add(section, name, value)
	}
}

// process are the lines of systemd.exec(5) of every process of an app: what it sees, who it is, and what it may do.
func (a App) process() ([]string, error) {
	dir, err := unitfile.Path(a.WorkingDir)
	if err != nil {
		return nil, err
	}
	binds := Binds
	for i, output := range []Stream{a.Stdout, a.Stderr} {
		from := stdoutDir + "/" + a.Name
		switch output {
		case Null:
			from = "/dev/null"
		case TTY:
			from = a.attachPath(TerminalLink)
		case Attached:
			from = a.attachPath([]string{StdoutPipe, StderrPipe}[i])
		}
		binds += " " + from + ":" + StandardFiles[i]
	}
	lines := []string{
		"RootDirectory=" + AppRoot(a.Name),
		// A fresh /proc would be without the read-only and masked parts of the pod's, and a fresh /run would hide the image's. In
		// /sys are the pod's control groups, whose limits are not the app's to change.
		"MountAPIVFS=no", "BindPaths=" + binds,
		"WorkingDirectory=" + dir,
		"User=" + strconv.FormatUint(uint64(a.UID), 10), "Group=" + strconv.FormatUint(uint64(a.GID), 10),
		"SupplementaryGroups=" + join(a.SupplementaryGIDs),
		"CapabilityBoundingSet=" + strings.Join(a.Capabilities, " "), "SyslogIdentifier=" + a.Name,
	}
	if !a.AllPaths {
		lines = append(lines, "ReadOnlyPaths=+/sys", "InaccessiblePaths="+hiddenPaths)
	}
	for _, v := range a.Environment {
		if !unitfile.ValidVariable(v.Name) { // see exec
			continue
		}
		value, err := unitfile.Environment(v.Name, v.Value)
		if err != nil {
			return nil, err
		}
		lines = append(lines, "Environment="+value)
	}
	// What systemd adds of its own; an app is told no more than its image and its pod say.
	var unset []string
	for _, name := range []string{"INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "LANG", "TERM"} {
		if name == "TERM" && a.hasTerminal() { // see standard
			continue
		}
		if !slices.ContainsFunc(a.Environment, func(v Variable) bool { return v.Name == name }) {
			unset = append(unset, name)
		}
	}
	if len(unset) > 0 {
		lines = append(lines, "UnsetEnvironment="+strings.Join(unset, " "))
	}
	return append(lines, a.Isolation.settings()...), nil
}

// settings are the lines of systemd.exec(5) and systemd.resource-control(5).
func (i Isolation) settings() (lines []string) {
	add := func(wanted bool, format string, args ...any) {
		if wanted {
			lines = append(lines, fmt.Sprintf(format, args...))
		}
	}
	if calls := strings.Join(i.Seccomp.Calls, " "); calls != "" {
		not := "~"
		if i.Seccomp.Retain {
			not = ""
		}
		add(true, "SystemCallFilter=%s%s", not, calls)
		add(i.Seccomp.Errno != "", "SystemCallErrorNumber=%s", i.Seccomp.Errno)
	}
	add(i.NoNewPrivileges, "NoNewPrivileges=yes")
	add(i.SELinuxContext != "", "SELinuxContext=%s", i.SELinuxContext)
	add(i.AppArmorProfile != "", "AppArmorProfile=%s", i.AppArmorProfile)
	if i.OOMScoreAdj != nil {
		add(true, "OOMScoreAdjust=%d", *i.OOMScoreAdj)
	}
	add(i.CPUWeight > 0, "CPUWeight=%d", i.CPUWeight)
	if i.CPUMilli > 0 {
		add(true, "CPUQuota=%d.%d%%", i.CPUMilli/10, i.CPUMilli%10)
	}
	add(i.MemoryMax > 0, "MemoryMax=%d", i.MemoryMax)
	for _, way := range []string{"Read", "Write"} { // of the disk that the pod's directory is on, and with it all that the app writes
		add(i.BlockBandwidth > 0, "IO%sBandwidthMax=/rkt %d", way, i.BlockBandwidth)
		add(i.BlockIOPS > 0, "IO%sIOPSMax=/rkt %d", way, i.BlockIOPS)
	}
	return lines
}

func join(ids []uint32) string {
	s := make([]string, len(ids))
	for i, id := range ids {
		s[i] = strconv.FormatUint(uint64(id), 10)
	}
	return strings.Join(s, " ")
}
