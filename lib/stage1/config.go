package stage1

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// Stage2 is rkt-stage2 as the pod's PID 1 sees it, ConfigDir the directory that has a directory for
// each app with its ConfigFile and, if the app has a seccomp filter of its own, its FilterFile.
// Nothing in the pod can write there.
const (
	Stage2     = "/rkt/stage2"
	ConfigDir  = "/rkt/apps"
	ConfigFile = poddir.ConfigFile    // config.json
	FilterFile = poddir.AppFilterFile // seccomp.bpf
	// PodFilterFile has the pod's filter, which the app gets before its own, in a flavor whose PID
	// 1 does not have it.
	PodFilterFile = poddir.PodFilterFile
)

// HandlerAnnotation and one of the names below is the name of an annotation of an app's
// configuration: a JSON array, a program of the app and its arguments, which rkt-stage2 runs as the
// app itself.
//
// BytesAnnotation is there for an app whose arguments are not UTF-8, which JSON can't hold: a JSON
// array of them in base64, which counts in the place of process.args.
const (
	BytesAnnotation   = "coreos.com/rkt/stage2/args"
	InitAnnotation    = "coreos.com/rkt/stage2/init" // "true": rkt-stage2 init is PID 1 of the app's namespace
	HandlerAnnotation = "coreos.com/rkt/stage2/handler/"
	PreStart          = "pre-start"
	PostStop          = "post-stop"
	HealthCheck       = "health"
	StartupCheck      = "startup"
)

// HandlersAnnotation is the name of an annotation of an app, in its configuration and in a pod's
// manifest, whose value HandlersAsApp has the handlers PreStart and PostStop run as the app's user.
// Without it they run as root.
const (
	HandlersAnnotation = "coreos.com/rkt/stage2/handlers"
	HandlersAsApp      = "app"
)

// ReadyAnnotation is there for an app that is ready when it has passed a health check:
// ReadyByHealth.
const (
	ReadyAnnotation = "coreos.com/rkt/stage2/ready"
	ReadyByHealth   = "health"
)

// maskedPaths tell too much of the host, or change it: root in a pod is the host's root to
// /proc/sysrq-trigger. systemd-nspawn means to hide some of them, and does not in its version 252:
// what it would mount over them is not there yet.
var maskedPaths = []string{
	"/proc/acpi", "/proc/asound", "/proc/config.gz", "/proc/kallsyms", "/proc/kcore", "/proc/keys", "/proc/kmem",
	"/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags", "/proc/latency_stats", "/proc/mem",
	"/proc/sched_debug", "/proc/scsi", "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats",
	"/sys/firmware", "/sys/fs/bpf", "/sys/fs/pstore", "/sys/hypervisor", "/sys/module", "/sys/power",
	"/sys/devices/virtual/powercap",
}

// readonlyPaths has the cgroups of the pod in it, whose limits are not the app's to change.
var readonlyPaths = []string{"/sys"}

// Umask is that of an app for which nobody says another.
const Umask = 0o022

// Config returns what rkt-stage2 makes of the app, as an OCI runtime configuration, as far as it is
// known when the pod is prepared; Finish adds the rest. own are what the app has of the pod besides
// what every app has. Paths of root and mounts are those of the pod's PID 1. Calls of the seccomp
// filter are names of system calls, without groups.
//
// Only what is below the app's root already, volumes and what /dev has besides devices, is not in
// it.
func (a App) Config(own ...specs.Mount) (*specs.Spec, error) {
	if len(a.Exec) == 0 {
		return nil, errors.New("nothing to execute")
	}
	filter, err := a.Seccomp.Profile(a.Capabilities)
	if err != nil {
		return nil, err
	}
	process := a.process()
	secrets, err := ParseSecrets(a.Secrets)
	if err != nil {
		return nil, err
	}
	covered := a.Volumes
	for _, s := range secrets {
		if s.Target != "" {
			covered = append(slices.Clone(covered), s.Target)
		}
	}
	config := &specs.Spec{
		Version: specs.Version,
		Process: process,
		Root:    &specs.Root{Path: AppRoot(a.Name), Readonly: a.ReadOnly},
		Mounts:  slices.Concat(a.tmpfsMounts(covered), podMounts(), own),
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}},
			Devices:    a.devices(),
			Sysctl:     a.Sysctl,
			Seccomp:    filter,
		},
	}
	if !a.AllPaths {
		config.Linux.MaskedPaths, config.Linux.ReadonlyPaths = maskedPaths, readonlyPaths
	}
	if slices.ContainsFunc(a.Volumes, InSys) {
		a.mountInSys(config)
	}
	if a.OwnsPIDs() {
		a.separatePIDs(config)
	}
	if err := a.annotate(config); err != nil {
		return nil, err
	}
	return config, a.checkText()
}

// process is what of the configuration is about the process itself.
func (a App) process() *specs.Process {
	mask := uint32(Umask)
	process := &specs.Process{
		User:            specs.User{UID: a.UID, GID: a.GID, Umask: &mask, AdditionalGids: a.SupplementaryGIDs},
		Args:            a.Exec,
		Cwd:             a.WorkingDir,
		Capabilities:    &specs.LinuxCapabilities{Bounding: a.Capabilities},
		Rlimits:         a.Rlimits,
		NoNewPrivileges: a.NoNewPrivileges,
		ApparmorProfile: a.AppArmorProfile,
		OOMScoreAdj:     a.OOMScoreAdj,
		SelinuxLabel:    a.SELinuxContext,
	}
	if a.UID == 0 {
		process.Capabilities.Effective, process.Capabilities.Permitted = a.Capabilities, a.Capabilities
	}
	// A user is a member of its own group, too (initgroups(3)); a set-group-ID program must not
	// lose that.
	if a.UID != 0 {
		process.User.AdditionalGids = append(slices.Clone(a.SupplementaryGIDs), a.GID)
	}
	for _, v := range a.Environment {
		process.Env = append(process.Env, v.Name+"="+v.Value)
	}
	if a.HasTerminal() && !slices.ContainsFunc(a.Environment, func(v Variable) bool { return v.Name == "TERM" }) {
		process.Env = append(process.Env, "TERM=xterm")
	}
	return process
}

// annotate adds what OCI's configuration has no place for.
func (a App) annotate(config *specs.Spec) error {
	if a.Secrets != "" {
		annotate(config, SecretsAnnotation, a.Secrets)
	}
	if a.Devices != "" {
		annotate(config, DevicesAnnotation, a.Devices)
	}
	if a.Init {
		annotate(config, InitAnnotation, "true")
	}
	if !utf8.ValidString(strings.Join(a.Exec, "")) {
		text, err := json.Marshal(bytesOf(a.Exec))
		if err != nil {
			return fmt.Errorf("arguments: %w", err)
		}
		annotate(config, BytesAnnotation, string(text))
	}
	handlers := []struct {
		name string
		argv []string
	}{{PreStart, a.PreStart}, {PostStop, a.PostStop}, {HealthCheck, nil}, {StartupCheck, nil}}
	if a.Health != nil {
		handlers[2].argv = a.Health.Exec
		if a.Health.Startup != nil {
			handlers[3].argv = a.Health.Startup.Exec
		}
	}
	if a.Health != nil && a.Health.Ready {
		annotate(config, ReadyAnnotation, ReadyByHealth)
	}
	if a.HandlersAsApp {
		annotate(config, HandlersAnnotation, HandlersAsApp)
	}
	for _, handler := range handlers {
		if handler.argv == nil {
			continue
		}
		text, err := json.Marshal(handler.argv)
		if err != nil {
			return fmt.Errorf("%s: %w", handler.name, err)
		}
		annotate(config, HandlerAnnotation+handler.name, string(text))
	}
	return nil
}

func annotate(config *specs.Spec, name, value string) {
	if config.Annotations == nil {
		config.Annotations = map[string]string{}
	}
	config.Annotations[name] = value
}

// OwnsPIDs reports whether the app has a PID namespace of its own.
func (a App) OwnsPIDs() bool { return a.PID1 || a.Init }

// separatePIDs gives the app a PID namespace, and the /proc that shows it. That is a new one, so
// what systemd-nspawn has made read-only in the pod's is said again.
func (a App) separatePIDs(config *specs.Spec) {
	config.Linux.Namespaces = append(config.Linux.Namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	for i, m := range config.Mounts {
		if m.Destination == "/proc" {
			config.Mounts[i] = specs.Mount{Destination: "/proc", Type: "proc", Source: "proc",
				Options: []string{"nosuid", "noexec", "nodev"}}
		}
	}
	if !a.AllPaths {
		config.Linux.ReadonlyPaths = slices.Concat(readonlyPaths, []string{"/proc/bus", "/proc/fs", "/proc/irq",
			"/proc/sys"})
	}
}

// OwnPIDs reports whether the app with this configuration has a PID namespace of its own.
func OwnPIDs(config *specs.Spec) bool {
	return config.Linux != nil && slices.ContainsFunc(config.Linux.Namespaces, func(ns specs.LinuxNamespace) bool {
		return ns.Type == specs.PIDNamespace
	})
}

// checkText refuses strings that JSON can't hold, or no process can be given.
func (a App) checkText() error {
	health := []string(nil)
	if a.Health != nil {
		health = a.Health.Exec
		if a.Health.Startup != nil {
			health = slices.Concat(health, a.Health.Startup.Exec)
		}
	}
	for _, s := range slices.Concat(a.PreStart, a.PostStop, health, []string{a.WorkingDir}) {
		if !utf8.ValidString(s) {
			return fmt.Errorf("%q: is not UTF-8", s)
		}
	}
	for _, s := range slices.Concat(a.Exec, a.PreStart, a.PostStop, health, []string{a.WorkingDir}) {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("%q: has a NUL byte, which no process can be given", s)
		}
	}
	return nil
}

func bytesOf(list []string) (b [][]byte) {
	for _, s := range list {
		b = append(b, []byte(s))
	}
	return b
}

// podMounts are what every app has of the pod. A fresh /proc would be without the read-only and
// masked parts of the pod's.
func podMounts() []specs.Mount {
	var mounts []specs.Mount
	add := func(from, to string) {
		mounts = append(mounts, specs.Mount{Destination: to, Type: "bind", Source: from, Options: []string{"rbind"}})
	}
	for _, path := range []string{"/proc", "/sys", "/dev/console", "/dev/pts", "/dev/shm", "/dev/mqueue"} {
		add(path, path)
	}
	return mounts
}

// InSys reports whether a clean path is /sys or below it.
func InSys(path string) bool { return IsIn(path, "/sys") }

// IsIn reports whether a clean path is a directory or below it.
func IsIn(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// mountInSys has the app see its volumes on /sys and below it, which lie in its root already: under
// the pod's /sys.
func (a App) mountInSys(config *specs.Spec) {
	linux := config.Linux
	covered := func(path string) bool {
		return slices.ContainsFunc(a.Volumes, func(volume string) bool { return InSys(volume) && IsIn(path, volume) })
	}
	linux.MaskedPaths = slices.DeleteFunc(slices.Clone(linux.MaskedPaths), covered)
	if covered("/sys") {
		config.Mounts = slices.DeleteFunc(config.Mounts, func(m specs.Mount) bool { return InSys(m.Destination) })
	}
	// The pod's /sys is read-only before volumes are mounted on it, which may be written to.
	for i := range config.Mounts {
		if m := &config.Mounts[i]; m.Destination == "/sys" && slices.Contains(linux.ReadonlyPaths, "/sys") {
			m.Options = append(m.Options, "ro")
		}
	}
	linux.ReadonlyPaths = slices.DeleteFunc(slices.Clone(linux.ReadonlyPaths), InSys)
	for _, volume := range a.Volumes {
		if InSys(volume) && !covered("/sys") {
			config.Mounts = append(config.Mounts, specs.Mount{
				Destination: volume, Type: "bind", Source: AppRoot(a.Name) + volume, Options: []string{"rbind"}})
		}
	}
}

// ParseConfig reads a configuration of an app. A field that is not known is an error: it could
// limit the app in a way that this version does not know.
func ParseConfig(text []byte) (*specs.Spec, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var config specs.Spec
	if err := decoder.Decode(&config); err != nil {
		return nil, err
	}
	return &config, nil
}

// Final is what is known of an app's process only when the pod starts.
type Final struct {
	Hostname string
	Terminal bool // the app has the pod's terminal
	NoTun    bool // there is no TunDevice that the app could use
	// Notify is the socket, as the pod's PID 1 sees it, that takes what the app says by
	// sd_notify(3); "" is as prepared.
	Notify      string
	Without     []string            // destinations of prepared mounts that it is not to have
	Environment []string            // NAME=VALUE, in the place of the app's own
	Limits      []specs.POSIXRlimit // where the app has none of its own
	Umask       uint32
	Secrets     bool          // the app has files in SecretsDir
	Mounts      []specs.Mount // further ones
	AppArmor    string        // the profile; "" is as prepared
	SELinux     string        // the context, for an app that was prepared without
	MountLabel  string        // the SELinux context of file systems that are made for the app
}

// AppNotify is that socket as the app sees it.
const AppNotify = "/run/rkt/notify"

// Finish returns the configuration with what is known when the pod starts. It does not change
// prepared.
func Finish(prepared *specs.Spec, f Final) *specs.Spec {
	config, process := *prepared, *prepared.Process
	config.Process = &process
	config.Hostname = f.Hostname
	if f.NoTun {
		config.Linux = withoutTun(config.Linux)
	}
	environment := f.Environment
	config.Mounts = slices.DeleteFunc(slices.Clone(config.Mounts), func(m specs.Mount) bool {
		return slices.Contains(f.Without, m.Destination)
	})
	if f.Secrets && coveredBy(prepared.Mounts, SecretsDir) {
		config.Mounts = append(config.Mounts, specs.Mount{Destination: SecretsDir, Type: "bind",
			Source: prepared.Root.Path + SecretsDir, Options: []string{"rbind"}})
	}
	config.Mounts = append(config.Mounts, f.Mounts...)
	process.Terminal = f.Terminal
	if f.AppArmor != "" {
		process.ApparmorProfile = f.AppArmor
	}
	if process.SelinuxLabel == "" {
		process.SelinuxLabel = f.SELinux
	}
	if f.MountLabel != "" {
		linux := *config.Linux
		linux.MountLabel = f.MountLabel
		config.Linux = &linux
	}
	process.User.Umask = &f.Umask
	process.Rlimits = slices.Clone(process.Rlimits)
	for _, l := range f.Limits {
		if !slices.ContainsFunc(prepared.Process.Rlimits, func(own specs.POSIXRlimit) bool {
			return own.Type == l.Type
		}) {
			process.Rlimits = append(process.Rlimits, l)
		}
	}
	sets := func(name string) func(string) bool {
		return func(s string) bool { return strings.HasPrefix(s, name+"=") }
	}
	if f.Hostname != "" && !slices.ContainsFunc(process.Env, sets("HOSTNAME")) {
		environment = append(slices.Clone(environment), "HOSTNAME="+f.Hostname)
	}
	if f.Notify != "" {
		config.Mounts = append(config.Mounts, specs.Mount{Destination: AppNotify, Type: "bind", Source: f.Notify,
			Options: []string{"bind"}})
		environment = append(slices.Clone(environment), "NOTIFY_SOCKET="+AppNotify)
	}
	process.Env = slices.Clone(process.Env)
	for _, v := range environment {
		name, _, _ := strings.Cut(v, "=")
		process.Env = append(slices.DeleteFunc(process.Env, sets(name)), v)
	}
	return &config
}

// HasTerminal reports whether one of its streams is a terminal of its own.
func (a App) HasTerminal() bool { return a.Stdin == TTY || a.Stdout == TTY || a.Stderr == TTY }
