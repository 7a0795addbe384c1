package chain

import (
	"fmt"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/cli"
)

// docker are flags of "docker run" and "podman run", and what to write for them here.
var docker = map[string]string{
	"e":                "--environment=NAME=VALUE after the image, or --set-env=NAME=VALUE before it",
	"v":                "--volume=SOURCE:TARGET[:ro]",
	"p":                "--port=NAME:[IP:]PORT, with the name that the image has for the port, such as 80-tcp",
	"u":                "--user=USER[:GROUP] after the image",
	"w":                "--working-dir=DIR after the image",
	"it":               "--interactive before the image",
	"m":                "--memory=SIZE after the image, such as 512Mi",
	"entrypoint":       "--exec=PATH after the image, and its arguments after a --",
	"network":          "--net=host, --net=none or --net=NAME",
	"restart":          "a service with Restart=, which rkt unit IMAGE prints: systemd starts it again, at boot, too",
	"privileged":       "--caps-retain=all --seccomp=mode=retain,@rkt/nested after the image, or --insecure-options=all-run",
	"read-only":        "--readonly-rootfs after the image",
	"add-host":         "--hosts-entry=ADDRESS=NAME",
	"security-opt":     "--no-new-privileges, --apparmor=..., --seccomp=mode=... after the image",
	"cpus":             "--cpu=N after the image",
	"memory-swap":      "MemorySwapMax= of the unit",
	"pids-limit":       "--pids-max=N before the image",
	"group-add":        "--supplementary-gids=GID after the image",
	"userns":           "--private-users=auto, yes or no",
	"pull":             "--pull-policy=never, new or update",
	"cidfile":          "--uuid-file-save=FILE",
	"pod":              "several images, with --- between them, are a pod",
	"log-driver":       "output goes to the journal, as the unit's",
	"umask":            "UMask= of the unit",
	"expose":           "a port that the image declares is open in the pod's network; --port=NAME:PORT forwards one",
	"link":             "the apps of a pod reach each other at 127.0.0.1: rkt run IMAGE --- IMAGE",
	"oom-kill-disable": "--oom-score-adj=-1000 after the image",
	"health-cmd":       "a health check is the image's; WatchdogSec= of the unit is the other way",
}

// spellings are further names of them.
var spellings = map[string]string{"env": "e", "publish": "p", "workdir": "w", "i": "it", "t": "it", "ti": "it", "tty": "it", "gidmap": "userns", "uidmap": "userns"}

// dockers completes the error for a flag that is Docker's.
func dockers(err error) error {
	flag, ok := err.(cli.UnknownFlag)
	if !ok {
		return nil
	}
	name := strings.TrimLeft(flag.Typed, "-")

	if other, ok := spellings[name]; ok {
		name = other
	}
	hint, ok := docker[name]
	if !ok {
		return nil
	}
	return fmt.Errorf("unknown flag %s; rkt has for it: %s", flag.Typed, hint)
}
