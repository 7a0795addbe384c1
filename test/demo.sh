#!/bin/bash
# The main job, as a session that explains itself: redis from a registry, as a systemd service, in a pod. Uses the machine's own
# systemd where it is PID 1, else a disposable one.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
if test ! -d /run/systemd/system; then
	stage=$(mktemp -d /var/tmp/rkt-demo-XXXXXX)
	trap 'rm -rf "$stage"' EXIT
	echo "(systemd is not PID 1 here: booting a disposable one)"
	cd "$top"
	go build -o "$stage/host" ./test/host
	go build -o "$stage/mkimage" ./test/mkimage
	"$stage/host" --bind="$top" --bind="$stage" -- env DEMO_STAGE="$stage" "$top/test/demo.sh"
	exit
fi

own=
if test -z "${DEMO_STAGE:-}"; then
	DEMO_STAGE=$(mktemp -d /var/tmp/rkt-demo-XXXXXX) own=$DEMO_STAGE
	(cd "$top" && go build -o "$DEMO_STAGE/mkimage" ./test/mkimage)
fi
cd "$DEMO_STAGE"
export PATH=$top/bin:$PATH
unit=/run/systemd/system/rkt-demo-redis.service
cleanup() {
	systemctl stop rkt-demo-redis rkt-demo-registry 2>/dev/null || true
	rm -f "$unit"
	systemctl daemon-reload
	rm -rf "$DEMO_STAGE/registry" "$DEMO_STAGE/redis" "$DEMO_STAGE/data" ${own:+"$own"}
}
trap cleanup EXIT

say() { printf '\n# %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

say "An image of the redis that is installed here, in a registry of our own."
rm -rf redis registry
./mkimage redis redis
printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: "127.0.0.1:5077"}\n' "$PWD" >registry.yml
systemd-run --quiet --unit=rkt-demo-registry docker-registry serve "$PWD/registry.yml"
until (exec 3<>/dev/tcp/127.0.0.1/5077) 2>/dev/null; do sleep 0.05; done
./mkimage push redis 127.0.0.1:5077/redis:latest
run rkt --insecure-options=image fetch docker://127.0.0.1:5077/redis

say "A unit file: each step is a program of its own."
cat >"$unit" <<UNIT
[Unit]
Description=Redis in a pod

[Service]
Slice=machine.slice
Delegate=yes
Type=notify
Environment=RKT_INSECURE_OPTIONS=image
ExecStartPre=/usr/bin/install -d -o 999 -g 999 $PWD/data
ExecStartPre=$top/bin/rkt-fetch docker://127.0.0.1:5077/redis
ExecStartPre=$top/bin/rkt-prepare --volume=$PWD/data:/data docker://127.0.0.1:5077/redis
ExecStartPre=$top/bin/rkt-net add --net=ptp:IP=172.16.28.101 self
ExecStart=$top/bin/rkt-run-prepared self
ExecStopPost=$top/bin/rkt-net del self
ExecStopPost=$top/bin/rkt-gc self
TimeoutStartSec=10min
KillMode=mixed
Restart=always
UNIT
run cat "$unit"
run systemctl daemon-reload
run systemctl start rkt-demo-redis

say "It answers."
for _ in $(seq 50); do redis-cli -h 172.16.28.101 ping >/dev/null 2>&1 && break; sleep 0.1; done
run redis-cli -h 172.16.28.101 ping | tee ping.out
grep -qx PONG <(tail -n 1 ping.out)
run redis-cli -h 172.16.28.101 set greeting hello
run redis-cli -h 172.16.28.101 get greeting

say "systemd sees the pod, and nothing of the toolkit is in memory."
run systemctl --no-pager --full --lines=0 status rkt-demo-redis
run machinectl --no-pager list
machinectl list --no-legend | grep -q '^rkt-[0-9a-f]*-'
run rkt list
run rkt enter rkt-demo-redis redis-cli get greeting
run journalctl --no-pager --lines=3 --machine="rkt-$(ls /var/lib/rkt/pods)"

say "A stop goes through the pod's own systemd: redis saves, and exits by itself."
pod=$(ls -t /var/lib/rkt/pods | head -n 1)
run systemctl stop rkt-demo-redis
run journalctl --no-pager --lines=8 --unit=rkt-demo-redis
journalctl --no-pager --unit=rkt-demo-redis | grep -q 'DB saved on disk'

say "Its data is in the directory that is mounted."
run systemctl start rkt-demo-redis
for _ in $(seq 50); do redis-cli -h 172.16.28.101 ping >/dev/null 2>&1 && break; sleep 0.1; done
run redis-cli -h 172.16.28.101 get greeting | tee get.out
grep -qx hello <(tail -n 1 get.out)
pod=$(ls -t /var/lib/rkt/pods | head -n 1)
run systemctl stop rkt-demo-redis

say "Nothing is left: no pod, no mount, no namespace, no address, no interface, no process."
run rkt list
nothing() {
	printf '$ %s\n' "$*"
	if out=$(bash -c "$*") && test -n "$out"; then printf 'LEFT: %s\n' "$out"; exit 1; fi
}
nothing "find /var/lib/rkt /run/rkt /var/log/journal -name '*$pod*' -o -name '${pod//-/}'"
nothing "findmnt --list --noheadings --output=TARGET | grep $pod"
nothing "find /var/lib/cni/networks/default -name '172.*'"
nothing "ip -o address | grep 172.16.28.101"
nothing "ip -o route | grep 172.16.28.101"
nothing "iptables-save | grep $pod"
nothing "ps -A -o args | grep $pod | grep -v grep"
say "Done."
