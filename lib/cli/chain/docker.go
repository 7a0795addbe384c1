package chain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
)

// docker are flags of "docker run" and "podman run" that are not ours, and what to write for them
// here. TestPodman holds that all of podman's are among them, and docs/from-podman.md has them as a
// table.
var docker = []struct{ flags, here string }{
	{"e, env", "--environment=NAME=VALUE after the image, or --set-env=NAME=VALUE before it"},
	{"v", "--volume=SOURCE:TARGET[:ro]"},
	{"p, publish", "--port=NAME:[IP:]PORT, with the name that the image has for the port, such as 80-tcp"},
	{"P, publish-all", "--port=NAME:PORT for each port that is to be reached from outside"},
	{"u", "--user=USER[:GROUP] after the image"},
	{"w, workdir", "--working-dir=DIR after the image"},
	{"it, i, t, ti, tty", "--interactive before the image"},
	{"a, attach", "--stdin=stream --stdout=stream after the image, and then rkt attach POD"},
	{"detach-keys", "rkt attach: ^P ^Q, which can't be changed"},
	{"m", "--memory=SIZE after the image, such as 512Mi"},
	{"entrypoint", "--exec=PATH after the image, and its arguments after a --"},
	{"network", "--net=host, --net=none or --net=NAME"},
	{"network-alias", "--net-alias=NAME"},
	{"ip, ip6, mac-address", "--net=NETWORK:IP=ADDRESS, where the network's plugin takes it"},
	{"restart", "a service with Restart=, which rkt unit IMAGE prints: systemd starts it again, at boot, too"},
	{"privileged", "--caps-retain=all --seccomp=mode=retain,@rkt/nested after the image, or " +
		"--insecure-options=all-run"},
	{"read-only", "--readonly-rootfs after the image"},
	{"read-only-tmpfs", "--tmpfs=/run --tmpfs=/tmp after the image"},
	{"add-host", "--hosts-entry=ADDRESS=NAME"},
	{"no-hosts", "--hosts-entry=none"},
	{"dns-option", "--dns-opt=OPTION"},
	{"security-opt", "--no-new-privileges, --apparmor=..., --seccomp=mode=... after the image, --selinux=no, " +
		"type:... or level:... before it"},
	{"seccomp-policy", "--seccomp=mode=... after the image"},
	{"cpus, cpu-period, cpu-quota", "--cpu=N after the image"},
	{"cpuset-cpus, cpuset-mems", "AllowedCPUs= and AllowedMemoryNodes= of the unit"},
	{"cpu-rt-period, cpu-rt-runtime", "nothing: systemd's cgroups give no real-time budget"},
	{"memory-swap", "MemorySwapMax= of the unit"},
	{"memory-reservation", "MemoryLow= of the unit"},
	{"memory-swappiness", "the host's sysctl vm.swappiness"},
	{"blkio-weight, blkio-weight-device", "IOWeight= and IODeviceWeight= of the unit"},
	{"device-read-bps, device-read-iops, device-write-bps, device-write-iops",
		"IOReadBandwidthMax=, IOReadIOPSMax=, IOWriteBandwidthMax=, IOWriteIOPSMax= of the unit"},
	{"device-cgroup-rule", "--device=/dev/X:rwm after the image"},
	{"pids-limit", "--pids-max=N before the image"},
	{"group-add", "--supplementary-gids=GID after the image"},
	{"userns, gidmap, uidmap, subuidname, subgidname, hostuser", "--private-users=auto, yes or no"},
	{"passwd, passwd-entry", "--user=UID after the image: a user needs no entry in /etc/passwd"},
	{"pull", "--pull-policy=never, new or update"},
	{"arch, os, platform, variant", "rkt fetch --platform=linux/ARCH, and rkt run with the ID that it prints"},
	{"authfile", "a file in /etc/rkt/auth.d, or what docker login or podman login has written"},
	{"disable-content-trust", "--insecure-options=image"},
	{"tls-verify", "--insecure-options=tls"},
	{"cidfile, pod-id-file", "--uuid-file-save=FILE"},
	{"pidfile, conmon-pidfile", "systemctl show --property=MainPID UNIT, or the line pid= of rkt status"},
	{"pod", "several images, with --- between them, are a pod"},
	{"replace", "rkt rm of the pod that has exited: --pod-name is free then"},
	{"requires", "Requires= and After= of the unit"},
	{"rmi", "rkt image gc, which removes images that were not used for a while"},
	{"rootfs", "rkt fetch oci:DIR or FILE.aci: an image of the directory"},
	{"log-driver, log-opt", "output goes to the journal, as the unit's"},
	{"umask", "UMask= of the unit"},
	{"expose", "a port that the image declares is open in the pod's network; --port=NAME:PORT forwards one"},
	{"link", "the apps of a pod reach each other at 127.0.0.1: rkt run IMAGE --- IMAGE"},
	{"volumes-from", "--volume before the images: all apps of a pod can have it"},
	{"image-volume", "--volume=SOURCE:TARGET in place of a volume that the image declares"},
	{"oom-kill-disable", "--oom-score-adj=-1000 after the image"},
	{"env-host", "--inherit-env"},
	{"env-merge, unsetenv, unsetenv-all", "--environment=NAME=VALUE after the image, which replaces the image's; " +
		"empty is a value"},
	{"http-proxy", "--set-env=HTTPS_PROXY=URL"},
	{"tz", "--environment=TZ=ZONE after the image"},
	{"l, label-file", "--label=NAME=VALUE after the image"},
	{"q", "--quiet"},
	{"cgroup-parent", "Slice= of the unit"},
	{"cgroup-conf", "systemd.resource-control(5) has what a unit can say"},
	{"cgroupns, cgroups", "nothing: a pod has a cgroup namespace of its own, below its unit's cgroup"},
	{"pid", "--pid1 after the image, for a PID namespace of the app's own; a pod never has the host's"},
	{"uts", "--hostname=NAME"},
	{"personality, chrootdirs, init-path", "nothing"},
	{"preserve-fds", "a .socket unit: socket activation passes descriptors"},
	{"sdnotify", "Type=notify of the unit, and after the image --ready=notify, with NotifyAccess=all of the unit, or " +
		"--ready=health"},
	{"sig-proxy", "nothing: SIGTERM stops the pod, and rkt kill --signal=NAME POD sends others"},
	{"systemd", "nothing: the pod has a systemd, beside the app"},
	{"timeout", "RuntimeMaxSec= of the unit"},
}

// dockers completes the error for a flag that is Docker's.
func dockers(err error) error {
	flag, ok := err.(cli.UnknownFlag)
	if !ok {
		return nil
	}
	name := strings.TrimLeft(flag.Typed, "-")
	for _, row := range docker {
		if slices.Contains(strings.Split(row.flags, ", "), name) {
			return fmt.Errorf("unknown flag %s; rkt has for it: %s", flag.Typed, row.here)
		}
	}
	return nil
}
