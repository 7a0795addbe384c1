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
mkdir -p /run/raw/root
cp -a "/var/lib/rkt/pods/$pod/stage1/rootfs/." /run/raw/root
mount --bind -o ro /usr /run/raw/root/usr
mkdir -p /run/raw/upper /run/raw/work
app=$(ls "/var/lib/rkt/pods/$pod/overlay")
lower=$(readlink -f "/var/lib/rkt/pods/$pod/overlay/$app/lower/"* | tac | paste -sd:)
mount -t overlay overlay -o "lowerdir=$lower,upperdir=/run/raw/upper,workdir=/run/raw/work" "/run/raw/root/opt/stage2/$app/rootfs"

median() { jq -r ".results[$1].median * 1000 | . * 10 | round / 10" "$2"; }
echo "== warm 'rkt run --net=none' of true, against raw systemd-nspawn --boot of the same root"
hyperfine --style=none --warmup 3 --runs 30 --export-json run.json \
	"rkt run --net=none $small --exec=/bin/true" "sh raw.sh $pod \$\$" >/dev/null 2>&1
printf 'rkt run %s ms, systemd-nspawn %s ms, ratio %s (target: at most 1.5)\n' "$(median 0 run.json)" "$(median 1 run.json)" \
	"$(jq -r '.results[0].median / .results[1].median * 100 | round / 100' run.json)"

echo "== rkt-prepare of an image of 1 MB, and of one of 200 MB"
hyperfine --style=none --warmup 3 --runs 30 --export-json prepare.json \
	"rkt-prepare $small --exec=/bin/true" "rkt-prepare $large --exec=/bin/true" >/dev/null 2>&1
printf 'small %s ms, large %s ms, ratio %s\n' "$(median 0 prepare.json)" "$(median 1 prepare.json)" \
	"$(jq -r '.results[1].median / .results[0].median * 100 | round / 100' prepare.json)"

echo "== the toolkit's own steps of a run"
hyperfine --style=none --warmup 3 --runs 30 --export-json steps.json --prepare "rkt-prepare $small --exec=/bin/true >pod" \
	'rkt-net add --net=none $(cat pod)' 'rkt-list --no-legend' >/dev/null 2>&1
printf 'rkt-prepare %s ms, rkt-net add --net=none %s ms\n' "$(median 0 prepare.json)" "$(median 0 steps.json)"

echo "== rkt-net's own share with the default network: its wall time less that of the plugins it calls, and of what this shell takes for /bin/true"
# started COMMAND... prints how long the shell takes for a command, µs: the median of 30
started() {
	for _ in $(seq 30); do
		start=${EPOCHREALTIME/./}
		"$@" >/dev/null
		echo $((${EPOCHREALTIME/./} - start))
	done | sort -n | sed -n 15p
}
nothing=$(started /bin/true)
printf 'rkt-net --help %d µs longer than /bin/true\n' $(($(started rkt-net --help) - nothing))
# share VERB prints wall time and own share, ms: medians of 30
share() {
	for pod in $pods; do
		start=${EPOCHREALTIME/./}
		rkt-net "$1" --debug "$pod" 2>calls
		took=$((${EPOCHREALTIME/./} - start - nothing))
		awk -v took="$took" '{
			for (i = 1; i < NF; i++) if ($i ~ /^(ADD|DEL):$/) {
				t = $(i + 1) + 0
				if ($(i + 1) ~ /[0-9]ms$/) t *= 1000; else if ($(i + 1) !~ /µs$/) t *= 1000000
				plugins += t
			}
		} END { if (!plugins) exit 1; print took / 1000, (took - plugins) / 1000 }' calls
	done | sort -n >times
	awk '{ print $1 }' times | sort -n | sed -n 15p | xargs printf '%.1f '
	awk '{ print $2 }' times | sort -n | sed -n 15p | xargs printf '%.1f'
}
pods=$(for _ in $(seq 30); do rkt-prepare "$small" --exec=/bin/true; done)
read -r wall own <<<"$(share add)"
printf 'rkt-net add %s ms, of which its own %s ms (target: under 15)\n' "$wall" "$own"
read -r wall own <<<"$(share del)"
printf 'rkt-net del %s ms, of which its own %s ms (target: under 15)\n' "$wall" "$own"
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

echo "== rkt list of 10,000 pods that have ended, against find and cat of their manifests"
many=$BENCH_STAGE/many
pod=$(rkt-prepare "$small" --exec=/bin/true)
mkdir -p "$many/pods" "$many/template"
find "/var/lib/rkt/pods/$pod" -maxdepth 1 -type f -exec cp -a {} "$many/template/" \;
touch "$many/template/started"
for _ in $(seq 10000); do cp -al "$many/template" "$many/pods/$(cat /proc/sys/kernel/random/uuid)"; done
hyperfine --style=none --warmup 2 --runs 10 --export-json list.json \
	"rkt-list --dir=$many" "sh -c 'find $many/pods -name pod -exec cat {} +'" >/dev/null 2>&1
test "$(rkt-list --dir="$many" --no-legend | wc -l)" = 10000
printf 'rkt-list %s ms, find and cat %s ms, ratio %s (target: under 300 ms)\n' "$(median 0 list.json)" "$(median 1 list.json)" \
	"$(jq -r '.results[0].median / .results[1].median * 100 | round / 100' list.json)"

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

umount /run/raw/root/usr "/run/raw/root/opt/stage2/$app/rootfs"
rm -rf /run/raw
rkt-gc --grace-period=0s --expire-prepared=0s >/dev/null
