package testkit

import (
	"os/exec"
	"testing"
)

// packages are Debian's names of what tests run.
var packages = map[string]string{
	"systemd-nspawn": "systemd-container", "machinectl": "systemd-container", "dbus-daemon": "dbus-daemon",
	"iptables": "iptables", "docker-registry": "docker-registry", "redis-server": "redis-server",
	"redis-cli": "redis-tools", "busybox": "busybox-static", "nsenter": "util-linux", "systemctl": "systemd",
	"jq": "jq", "socat": "socat", "dnsmasq": "dnsmasq-base", "curl": "curl", "etcd": "etcd-server",
	"qemu-system-x86_64": "qemu-system-x86", "mke2fs": "e2fsprogs", "mkfs.xfs": "xfsprogs", "pgrep": "procps",
}

// Require fails the test when the machine lacks a program, and says how to get it. A test never
// passes by not running.
func Require(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%s is missing: run make deps, or install Debian's package %s", name, packages[name])
		}
	}
}
