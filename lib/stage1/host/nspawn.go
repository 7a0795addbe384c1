package host

import (
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// initCapabilities are what the pod's systemd and journald need themselves.
var initCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
	"CAP_SYS_RESOURCE",
}

// nspawnCapabilities are what systemd-nspawn retains by itself (systemd-nspawn(1), --capability=).
var nspawnCapabilities = []string{
	"CAP_AUDIT_CONTROL", "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER",
	"CAP_FSETID", "CAP_IPC_OWNER", "CAP_KILL", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_MKNOD", "CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_ADMIN",
	"CAP_SYS_BOOT", "CAP_SYS_CHROOT", "CAP_SYS_NICE", "CAP_SYS_PTRACE", "CAP_SYS_RESOURCE", "CAP_SYS_TTY_CONFIG",
}

// capabilityOptions are the arguments of systemd-nspawn that follow from the apps: its bounding set
// becomes what the pod's init needs and what an app may keep, not the 25 capabilities that
// systemd-nspawn leaves a container.
func capabilityOptions(apps []stage1.App) []string {
	keep := slices.Clone(initCapabilities)
	for _, app := range apps {
		keep = append(keep, app.Capabilities...)
	}
	var drop, add []string
	for _, c := range nspawnCapabilities {
		if !slices.Contains(keep, c) {
			drop = append(drop, c)
		}
	}
	slices.Sort(keep)
	for _, c := range slices.Compact(keep) {
		if !slices.Contains(nspawnCapabilities, c) {
			add = append(add, c)
		}
	}
	var options []string
	if len(drop) > 0 {
		options = append(options, "--drop-capability="+strings.Join(drop, ","))
	}
	if len(add) > 0 {
		options = append(options, "--capability="+strings.Join(add, ","))
	}
	return options
}

// machine is what is known about a pod when it starts.
type machine struct {
	UUID     string
	Machine  string   // its name at systemd-machined; "" is rkt-UUID
	Version  int      // of systemd-nspawn and the pod's systemd
	Register bool     // with systemd-machined
	KeepUnit bool     // stay in the unit that the process is in, instead of a new scope
	Hostname string   // "" is rkt-UUID
	Users    string   // range of user IDs of its own, BASE:COUNT; "" is the host's
	Terminal bool     // an app reads from it; otherwise ^C is a signal that ends the pod
	Former   bool     // an older rkt prepared the pod: it has no rkt-stage2, and its systemd says when it is ready
	Options  []string // what capabilityOptions gave when the pod was prepared
}

// arguments are those of the systemd-nspawn that becomes the pod, for a working directory that is
// the pod's.
func arguments(s machine) []string {
	register := "--register=false"
	if s.Register {
		register = "--register=true"
	}
	link := "--link-journal=try-guest"
	if s.OwnJournalLink() {
		link = "--link-journal=no"
	}
	argv := []string{"--boot", register, link, "--quiet"}
	if s.KeepUnit {
		argv = append(argv, "--keep-unit")
	}
	machine := stage1.PodName(s.UUID)
	if s.Machine != "" {
		machine = s.Machine
	}
	if s.Hostname == "" && s.Machine != "" { // which would be the machine's name
		s.Hostname = stage1.PodName(s.UUID)
	}
	argv = append(argv, "--uuid="+s.UUID, "--machine="+machine, "--directory="+poddir.RootDir,
		"--notify-ready=yes", "--resolv-conf=off", "--timezone=off",
		"--settings=no") // no file of the host's that has the machine's name
	if s.Version >= 261 { // which asks for a choice; the pod's own seccomp filter makes it
		argv = append(argv, "--restrict-address-families=")
	}
	if s.Users != "" { // the mounts are shifted already
		argv = append(argv, "--private-users="+s.Users, "--private-users-ownership=off")
	}
	console := "read-only"
	if s.Terminal {
		console = "interactive"
	}
	argv = append(argv, "--console="+console)
	if s.Hostname != "" {
		argv = append(argv, "--hostname="+s.Hostname)
	}
	argv = append(argv, s.Options...)
	if !s.Former {
		// the pod's systemd would say READY=1 when no job waits, see Ready
		argv = append(argv, "--setenv=NOTIFY_SOCKET=")
	}
	argv = append(argv,
		"--setenv=SYSTEMD_UNIT_PATH="+UnitPath,
		"--setenv=SYSTEMD_GENERATOR_PATH=/dev/null", "--setenv=SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/dev/null",
		"--")
	return append(argv, s.initArguments()...)
}

// initArguments are those of the pod's systemd. From 262 on systemd-nspawn takes what looks like
// NAME=VALUE for an environment variable; systemd reads options of the kernel's command line
// (kernel-command-line(7)) then, as it does in any container.
func (s machine) initArguments() []string {
	names := []struct{ option, value string }{
		{"default-standard-output", "tty"}, {"log-target", "null"}, {"log-level", "warning"}, {"show-status", "0"},
	}
	var args []string
	for _, n := range names {
		if s.Version >= 258 {
			args = append(args, "systemd."+strings.ReplaceAll(n.option, "-", "_")+"="+n.value)
		} else {
			args = append(args, "--"+n.option+"="+n.value)
		}
	}
	return args
}

// OwnJournalLink reports whether rkt-run-prepared makes the link by which the host's journalctl
// finds the pod's journal: systemd-nspawn has no directory of the host's to make it in, and what
// 258 and later make leads nowhere.
func (s machine) OwnJournalLink() bool { return !s.Former || s.Version >= 258 }
