#!/bin/bash
# Fetching, side by side in one run: rkt-fetch, "podman pull", and "skopeo copy" with "umoci unpack", from one registry of this machine, each
# with an empty store on the same file system. Medians of BENCH_RUNS rounds (5), in which each has one turn.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
runs=${BENCH_RUNS:-5}
at=$(mktemp -d /var/tmp/rkt-bench-fetch-XXXXXX)
registry=
cleanup() {
	test -z "$registry" || kill "$registry"
	rm -rf "$at"
}
trap cleanup EXIT
cd "$at"
export PATH=$top/bin:$PATH
. "$top/test/clock.sh"
(cd "$top" && go build -o "$at/mkimage" ./test/mkimage)

address=127.0.0.1:$((20000 + RANDOM % 10000))
cat >registry.yml <<YML
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $at/registry}}
http: {addr: "$address"}
YML
docker-registry serve registry.yml >registry.log 2>&1 &
registry=$!
for _ in $(seq 100); do
	(exec 3<>"/dev/tcp/${address/:*/}/${address/*:/}") 2>/dev/null && break
	sleep 0.1
done

# cold TOOL NAME: an empty store, and what the tool does with the image; prints seconds and, of the largest process, kB
cold() {
	rm -rf store storage storage-run layout bundle out
	sync
	case $1 in
	rkt) set -- rkt-fetch --dir=store --insecure-options=image --quiet "docker://$address/$2" ;;
	podman) set -- podman --root="$at/storage" --runroot="$at/storage-run" --storage-driver=overlay pull --tls-verify=false --quiet "$address/$2" ;;
	umoci) set -- sh -c "skopeo copy --quiet --src-tls-verify=false docker://$address/$2 oci:layout:x && umoci unpack --image layout:x bundle" ;;
	inflate) set -- sh -c "for f in $2/gz/*; do gzip -dc \$f >/dev/null || exit; done" ;;
	hash) set -- sh -c "sha256sum $2/gz/* $2/tar/*" ;;
	files) mkdir out; set -- sh -c "for f in $2/tar/*; do tar -C out -xf \$f || exit; done; sync -f out" ;;
	esac
	/usr/bin/time -o time -f '%e %M' "$@" >log 2>&1 || { cat log >&2; exit 1; }
	cat time
}
# median FILE COLUMN
median() { sort -n -k "$2,$2" "$1" | awk -v column="$2" '{ v[NR] = $column } END { print v[int((NR + 1) / 2)] }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

for image in one:1 ten:10; do
	layers=${image/*:/} name=${image/:*/}
	./mkimage files "$name" 20000 220000000 "$layers"
	./mkimage push "$name" "$address/$name:latest"
	mkdir "$name/gz" "$name/tar"
	for blob in "$name"/blobs/sha256/*; do
		gzip -t "$blob" 2>/dev/null || continue
		cp "$blob" "$name/gz/"
		gzip -dc "$blob" >"$name/tar/${blob##*/}"
	done
	tools="rkt podman umoci inflate hash files"
	for _ in $(seq "$runs"); do
		for tool in $tools; do cold "$tool" "$name" >>"$name.$tool"; done
	done
	echo "== an image of 220 MB in 20000 files, layers: $layers; cold"
	for tool in $tools; do declare "$tool=$(median "$name.$tool" 1)"; done
	printf 'rkt-fetch %s s and %s MB, podman pull %s s and %s MB, skopeo copy and umoci unpack %s s\n' \
		"$rkt" $(($(median "$name.rkt" 2) / 1024)) "$podman" $(($(median "$name.podman" 2) / 1024)) "$umoci"
	printf 'ratio to podman %s (target: at most 0.5), to skopeo and umoci %s; memory target: at most 100 MB\n' \
		"$(ratio "$rkt" "$podman")" "$(ratio "$rkt" "$umoci")"
	printf 'what has to be done, each alone by the usual tool: inflate (gzip) %s s, hash (sha256sum) %s s, make files and sync (tar) %s s; ' \
		"$inflate" "$hash" "$files"
	printf 'rkt-fetch to their sum %s, to the longest %s\n' "$(awk "BEGIN { printf \"%.2f\", $rkt / ($inflate + $hash + $files) }")" \
		"$(awk "BEGIN { m = $inflate > $files ? $inflate : $files; m = m > $hash ? m : $hash; printf \"%.2f\", $rkt / m }")"
done

echo "== the same image fetched again, asking the registry (and by digest, which asks nobody)"
rm -rf store
rkt-fetch --dir=store --insecure-options=image --quiet "docker://$address/one" >/dev/null
digest=$(jq -r '.manifests[0].digest' one/index.json)
rkt-fetch --dir=store --insecure-options=image --quiet "docker://$address/one@$digest" >/dev/null
podman --root="$at/storage" --runroot="$at/storage-run" --storage-driver=overlay pull --tls-verify=false --quiet "$address/one" >/dev/null 2>&1
read -r ask byDigest curl podman <<<"$(turns 30 \
	"rkt-fetch --dir=store --insecure-options=image --quiet docker://$address/one" \
	"rkt-fetch --dir=store --insecure-options=image --quiet docker://$address/one@$digest" \
	"curl --silent --head http://$address/v2/one/manifests/latest" \
	"podman --root=$at/storage --runroot=$at/storage-run --storage-driver=overlay pull --tls-verify=false --quiet $address/one")"
printf 'rkt-fetch %s ms (by digest %s ms), one request by curl %s ms, podman pull %s ms\n' "$ask" "$byDigest" "$curl" "$podman"
printf 'to ask costs rkt-fetch one request, and with it %s ms more than without; all but a request is %s ms (target: at most 30 ms)\n' \
	"$(awk "BEGIN { print $ask - $byDigest }")" "$byDigest"
