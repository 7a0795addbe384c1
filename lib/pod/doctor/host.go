package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/apparmor"
	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/devfilter"
	"github.com/rkt-toolkit/rkt/lib/host/program"
	"github.com/rkt-toolkit/rkt/lib/host/selinux"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/host/userns"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
	"golang.org/x/sys/unix"
)

func checkSystemd(ctx context.Context, _ Host) []Finding {
	out, err := program.Command(ctx, "systemctl", "--version").Output()
	if errors.Is(err, program.ErrNotFound) {
		return bad(Warning, "the host has no systemd: pods need flavor init or fly | write the line "+
			"\"stage1-name init\" into /etc/rkt/rkt.conf, or install systemd %d or newer", host.Oldest)
	}
	if err != nil {
		return bad(Fault, "systemctl is missing or fails: %v | install systemd %d or newer", err, host.Oldest)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	major, minor, text := version(line)
	switch {
	case major < host.Oldest:
		return bad(Fault, "systemd %s: pods need %d or newer | upgrade the host", text, host.Oldest)
	case vulnerable(major, minor):
		return bad(Warning, "systemd %s has CVE-2026-40223: a local user can freeze PID 1 while a pod runs | upgrade "+
			"systemd to %s", text, mended[major])
	case !systemd.Booted():
		return bad(Warning, "systemd %s is installed, but it is not PID 1: pods run by rkt run, units do not | boot "+
			"with systemd to have units", text)
	}
	return ok("systemd %s is PID 1", text)
}

// version reads the first line of systemctl --version: "systemd 257 (257.9-1~deb13u1)".
func version(line string) (major, minor int, text string) {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return 0, 0, line
	}
	text = fields[1]
	if len(fields) > 2 {
		text = strings.Trim(fields[2], "()")
	}
	first, rest, _ := strings.Cut(text, ".")
	major = systemd.LeadingNumber(first)
	if major == 0 {
		major = systemd.LeadingNumber(fields[1])
	}
	return major, systemd.LeadingNumber(rest), text
}

// mended are the first versions of a series without CVE-2026-40223.
var mended = map[int]string{258: "258.5", 259: "259.2"}

// vulnerable reports whether a version of systemd has CVE-2026-40223 (docs/systemd.md): 258 to
// 258.4, 259 to 259.1.
func vulnerable(major, minor int) bool {
	return major == 258 && minor <= 4 || major == 259 && minor <= 1
}

func checkNspawn(context.Context, Host) []Finding {
	path, err := host.Nspawn()
	if _, none := program.Look("systemctl"); err != nil && errors.Is(none, program.ErrNotFound) {
		return ok("not needed without systemd")
	}
	if err != nil {
		return bad(Fault, "%v | apt install systemd-container, or your distribution's package of systemd-nspawn", err)
	}
	return ok("%s", path)
}

func checkMachined(context.Context, Host) []Finding {
	switch {
	case !systemd.Booted():
		return ok("not needed without systemd as PID 1")
	case !place.CanRegister():
		return bad(Warning, "systemd-machined or the system bus is missing: machinectl does not list pods | apt "+
			"install systemd-container dbus")
	}
	return ok("machinectl lists pods")
}

func checkKernel(context.Context, Host) []Finding {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return bad(Fault, "uname: %v", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	if err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}); errors.Is(err, unix.ENOSYS) {
		return bad(Fault, "Linux %s has no mount_setattr(2) | boot Linux 5.12 or newer", release)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err == nil && !strings.Contains(string(status), "\nSeccomp:") {
		return bad(Fault, "Linux %s has no seccomp filters | enable CONFIG_SECCOMP_FILTER", release)
	}
	for _, ns := range []struct{ kind, option string }{
		{"pid", "CONFIG_PID_NS"}, {"net", "CONFIG_NET_NS"}, {"ipc", "CONFIG_IPC_NS"}, {"uts", "CONFIG_UTS_NS"},
		{"cgroup", "CONFIG_CGROUPS"},
	} {
		if _, err := os.Stat("/proc/self/ns/" + ns.kind); err != nil {
			return bad(Fault, "Linux %s has no %s namespaces | enable %s", release, ns.kind, ns.option)
		}
	}
	return ok("Linux %s", release)
}

func checkUsers(_ context.Context, h Host) []Finding {
	text, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	if err != nil {
		return bad(Warning, "the kernel has no user namespaces: a pod's root is root on the host | enable "+
			"CONFIG_USER_NS")
	}
	if strings.TrimSpace(string(text)) == "0" {
		return bad(Warning, "user namespaces are switched off: a pod's root is root on the host | sysctl "+
			"user.max_user_namespaces=10000")
	}
	ns, err := userns.Range{Base: 1 << 19}.Open()
	if err != nil {
		return bad(Warning, "%v: a pod's root is root on the host", err)
	}
	defer ns.Close()
	if err := userns.Try(existing(h.Data), false, ns); err != nil {
		return bad(Warning, "%s: %v: root of pods there is root on the host | put the data directory on ext4, xfs or "+
			"btrfs", existing(h.Data), err)
	}
	return ok("pods have users of their own")
}

// existing is a path, or the nearest directory above it that exists.
func existing(path string) string {
	for path != "/" {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		path = filepath.Dir(path)
	}
	return path
}

// limiting are the controllers that the limits of apps need.
var limiting = []string{"cpu", "io", "memory", "pids"}

func checkCgroups(context.Context, Host) []Finding {
	dir, err := cgroup.In(cgroup.Unified)
	if err != nil || dir == "" {
		return bad(Warning, "there is no cgroup hierarchy of version 2: limits of apps are not enforced | boot with "+
			"systemd.unified_cgroup_hierarchy=1")
	}
	text, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	if errors.Is(err, fs.ErrNotExist) {
		return bad(Warning, "cgroups of version 1 have the controllers: limits of apps are not enforced | boot with "+
			"systemd.unified_cgroup_hierarchy=1")
	}
	if err != nil {
		return bad(Warning, "%v", err)
	}
	var missing []string
	for _, c := range limiting {
		if !slices.Contains(strings.Fields(string(text)), c) {
			missing = append(missing, c)
		}
	}
	if len(missing) > 0 {
		return bad(Warning, "no controllers %s: such limits of apps are not enforced | enable them in the kernel "+
			"(CONFIG_MEMCG, CONFIG_CGROUP_PIDS, CONFIG_BLK_CGROUP, CONFIG_FAIR_GROUP_SCHED)",
			strings.Join(missing, ", "))
	}
	return ok("version 2, with controllers %s", strings.Join(limiting, ", "))
}

func checkDevices(context.Context, Host) []Finding {
	if devfilter.Supported(stage1.DeviceRules(false)) {
		return ok("pods have device filters")
	}
	if dir, err := cgroup.In(cgroup.Devices); err == nil && dir != "" {
		return ok("pods have device filters (devices controller of version 1)")
	}
	return bad(Warning, "%v: a node of a device that gets into a pod can be used there | enable CONFIG_CGROUP_BPF",
		devfilter.ErrUnsupported)
}

func checkAppArmor(context.Context, Host) []Finding {
	if !apparmor.Enabled() {
		return ok("the host has none")
	}
	loaded, err := apparmor.Loaded("rkt-default")
	if err != nil {
		return bad(Warning, "%v", err)
	}
	if !loaded {
		return bad(Warning, "the profile rkt-default is not loaded: apps run unconfined | apparmor_parser --replace "+
			"/etc/apparmor.d/rkt-default")
	}
	return ok("apps run under the profile rkt-default")
}

func checkSELinux(context.Context, Host) []Finding {
	if !selinux.Enabled() {
		return ok("the host has none")
	}
	c, err := selinux.OfPolicy()
	if err != nil {
		return bad(Warning, "%v: apps have no SELinux context of their own | install container-selinux, or your "+
			"distribution's policy for containers", err)
	}
	return ok("apps run as %s, each pod with categories of its own", c.Process)
}
