#!/bin/bash
# Whole processes side by side in one run, in a disposable host (or on the machine's own systemd): medians and ratios.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
if test -z "${BENCH_STAGE:-}"; then
	stage=$(mktemp -d /var/tmp/rkt-bench-XXXXXX)
	trap 'umount "$stage/many" || true; rm -rf "$stage"' EXIT
	# A file system of its own for many pods: discard is done once a week on most hosts, not with each file that is removed.
	truncate -s 4G "$stage/many.img"
	mkfs.ext4 -q "$stage/many.img"
	mkdir "$stage/many"
	mount -o loop,nodiscard "$stage/many.img" "$stage/many"
	cd "$top"
	go build -o "$stage/host" ./test/host
	go build -o "$stage/mkimage" ./test/mkimage
	"$stage/host" --bind="$top" --bind="$stage" -- env BENCH_STAGE="$stage" "$top/test/bench.sh"
	"$top/test/bench-fetch.sh"
	exit
fi
cd "$BENCH_STAGE"
export PATH=$top/bin:$PATH RKT_INSECURE_OPTIONS=image
./mkimage busybox small
./mkimage big large 200000000
rkt-fetch oci:small >/dev/null
large=$(rkt-fetch --full oci:large)
small=$(rkt-fetch --full oci:small)

# The same stage1 root for both: what rkt-run-prepared would execute, with its mounts made beforehand.
cat >raw.sh <<'SH'
# raw.sh POD: systemd-nspawn of a prepared pod's root, with its own arguments and nothing of the toolkit
cd /var/lib/rkt/pods/$1
exec systemd-nspawn --boot --register=true --link-journal=no --quiet --uuid=$1 --machine=raw-$2 --directory=/run/raw/root --notify-ready=yes \
	--resolv-conf=off --timezone=off --private-network $(cat stage1/nspawn-options) \
	--setenv=SYSTEMD_UNIT_PATH=/etc/systemd/system --setenv=SYSTEMD_GENERATOR_PATH=/dev/null \
	--setenv=SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/dev/null -- --default-standard-output=tty --log-target=null --log-level=warning --show-status=0
SH
pod=$(rkt-prepare "$small" --exec=/bin/true)
rkt-net add --net=none "$pod"
rkt-run-prepared "$pod" </dev/null >/dev/null # writes what apps are started with
mkdir -p /run/raw/root
cp -a "/var/lib/rkt/pods/$pod/stage1/rootfs/." /run/raw/root
binds=
while read -r source target _; do # as rkt-run-prepared does
	binds="/run/raw/root/${target#stage1/rootfs/} $binds"
	(cd "/var/lib/rkt/pods/$pod" && mount --bind -o ro "$source" "/run/raw/root/${target#stage1/rootfs/}")
done <"/var/lib/rkt/pods/$pod/mounts"
mkdir -p /run/raw/upper /run/raw/work
app=$(ls "/var/lib/rkt/pods/$pod/overlay")
lower=$(readlink -f "/var/lib/rkt/pods/$pod/overlay/$app/lower/"* | tac | paste -sd:)
mount -t overlay overlay -o "lowerdir=$lower,upperdir=/run/raw/upper,workdir=/run/raw/work" "/run/raw/root/opt/stage2/$app/rootfs"

. "$top/test/clock.sh"
echo "== warm 'rkt run --net=none' of true, against raw systemd-nspawn --boot of the same root"
for n in $(seq 33); do # in turn, since the machine's speed changes from minute to minute
	took rkt run --net=none "$small" --exec=/bin/true >>run
	took sh raw.sh "$pod" "$n" >>raw
done </dev/null 2>/dev/null
read -r run raw <<<"$(middle run raw)"
printf 'rkt run %s ms, systemd-nspawn %s ms, ratio %s (target: at most 1.5)\n' "$run" "$raw" "$(jq -n "$run / $raw * 100 | round / 100")"

echo "== rkt-prepare of an image of 1 MB, and of one of 200 MB"
read -r prepare prepareLarge <<<"$(turns 30 "rkt-prepare $small --exec=/bin/true" "rkt-prepare $large --exec=/bin/true")"
printf 'small %s ms, large %s ms, ratio %s\n' "$prepare" "$prepareLarge" "$(jq -n "$prepareLarge / $prepare * 100 | round / 100")"

echo "== the toolkit's own steps of a run"
for _ in $(seq 30); do
	uuid=$(rkt-prepare "$small" --exec=/bin/true)
	took rkt-net add --net=none "$uuid" >>add.none
done
printf 'rkt-prepare %s ms, rkt-net add --net=none %s ms\n' "$prepare" "$(middle add.none)"

echo "== rkt-net's own share with the default network: its wall time less that of the plugin called by hand, in turn"
# plugin COMMAND calls ptp as rkt-net does.
plugin() {
	CNI_COMMAND=$1 CNI_CONTAINERID=$bare CNI_NETNS=/run/rkt/netns/$bare CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni /usr/lib/cni/ptp <ptp.conf
}
pods=$(for _ in $(seq 30); do rkt-prepare "$small" --exec=/bin/true; done)
bare=$(rkt-prepare "$small" --exec=/bin/true)
rkt-net add "$bare"
jq '.plugins[0] + {name, cniVersion}' "/var/lib/rkt/pods/$bare/net/eth0/config" >ptp.conf
rkt-net del "$bare"
rkt-net add --net=none "$bare"
for pod in $pods; do
	took /bin/true >>true
	took systemd-run --wait --quiet /bin/true >>unit
	took rkt-net --help >>help
	took rkt-net add "$pod" >>add
	took plugin ADD >>add.plugin
	took rkt-net del "$pod" >>del
	took plugin DEL >>del.plugin
done
read -r nothing unit help add addPlugin del delPlugin <<<"$(middle true unit help add add.plugin del del.plugin)"
# own WHOLE PLUGIN prints rkt-net's own share and its ratio to what systemd-run takes, which says how fast processes start on this machine.
own() { awk -v a="$1" -v b="$2" -v unit="$unit" 'BEGIN { printf "%.1f ms, %.2f of systemd-run", a - b, (a - b) / unit }'; }
printf '/bin/true %s ms, systemd-run --wait of it %s ms, rkt-net --help %s ms\n' "$nothing" "$unit" "$help"
printf 'rkt-net add %s ms, of which its own %s (target: under 15 ms; systemd-run takes 22 ms in design.md)\n' "$add" "$(own "$add" "$addPlugin")"
printf 'rkt-net del %s ms, of which its own %s (target: under 15 ms; systemd-run takes 22 ms in design.md)\n' "$del" "$(own "$del" "$delPlugin")"
some=$(echo "$pods" | head -20)
start=${EPOCHREALTIME/./}
for pod in $some; do rkt-net add "$pod"; done
one=$((${EPOCHREALTIME/./} - start))
for pod in $some; do rkt-net del "$pod"; done
start=${EPOCHREALTIME/./}
for pod in $some; do rkt-net add "$pod" & done
wait
all=$((${EPOCHREALTIME/./} - start))
printf '20 pods attached one after the other in %d ms, at once in %d ms\n' $((one / 1000)) $((all / 1000))

echo "== rkt list of 10,000 pods of one image that have ended, against find and cat of their manifests"
many=$BENCH_STAGE/many
pod=$(rkt-prepare "$small" --exec=/bin/true)
mkdir -p "$many/pods" "$many/template"
find "/var/lib/rkt/pods/$pod" -maxdepth 1 ! -type d -exec cp -a {} "$many/template/" \;
touch "$many/template/started"
for _ in $(seq 10000); do cp -a "$many/template" "$many/pods/$(cat /proc/sys/kernel/random/uuid)"; done
read -r list cat <<<"$(turns 10 "rkt-list --dir=$many" "find $many/pods -name pod -exec cat {} +")"
test "$(rkt-list --dir="$many" --no-legend | wc -l)" = 10000
printf 'rkt-list %s ms, find and cat %s ms, ratio %s (target: under 300 ms)\n' "$list" "$cat" "$(jq -n "$list / $cat * 100 | round / 100")"

echo "== rkt-gc of 1,000 pods that have ended, against rm -r of copies of them"
mkdir -p "$many/copies"
rm -r "$many/pods"
mkdir "$many/pods"
touch "/var/lib/rkt/pods/$pod/started"
for _ in $(seq 1000); do
	uuid=$(cat /proc/sys/kernel/random/uuid)
	cp -a "/var/lib/rkt/pods/$pod" "$many/pods/$uuid"
	cp -a "/var/lib/rkt/pods/$pod" "$many/copies/$uuid"
done
sync
start=${EPOCHREALTIME/./}
test "$(rkt-gc --dir="$many" --grace-period=0s | wc -l)" = 1000
collected=$((${EPOCHREALTIME/./} - start)) start=${EPOCHREALTIME/./}
rm -r "$many/copies"
removed=$((${EPOCHREALTIME/./} - start))
printf 'rkt-gc %d ms, rm -r %d ms (target: under 2000 ms)\n' $((collected / 1000)) $((removed / 1000))

umount $binds "/run/raw/root/opt/stage2/$app/rootfs"
rm -rf /run/raw
rkt-gc --grace-period=0s --expire-prepared=0s >/dev/null
