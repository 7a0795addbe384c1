#!/bin/bash
# A shell, or a command, in a disposable host that has the toolkit, and the images of busybox and redis in /images.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d /var/tmp/rkt-shell-XXXXXX)
trap 'rm -rf "$dir"' EXIT
mkdir -m 755 "$dir/root" # it becomes the directory /
make --silent install DESTDIR="$dir/root" PREFIX=/usr
go build -o "$dir/" ./test/mkimage ./test/host
mkdir "$dir/root/images"
"$dir/mkimage" busybox "$dir/root/images/busybox"
"$dir/mkimage" redis "$dir/root/images/redis"
echo 'A disposable host: nothing that you do here stays. Try: rkt --insecure-options=image run --interactive oci:/images/busybox'
"$dir/host" --overlay="$dir/root" -- "${@:-bash}"
