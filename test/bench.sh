#!/bin/bash
# Boots a disposable host and has test/bench measure in it, with the arguments; fetches are measured by bench-fetch.sh, on the machine, since
# they need file systems of their own.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
stage=$(mktemp -d /var/tmp/rkt-bench-XXXXXX)
trap 'rm -rf "$stage"' EXIT
mkdir -m 755 "$stage/root" "$stage/work"
make --silent -C "$top" install DESTDIR="$stage/root" PREFIX=/usr
cd "$top"
mkdir "$stage/root/images"
CGO_ENABLED=0 go build -ldflags=-s -o "$stage/root/images/first" ./test/bench/first
go build -o "$stage/root/usr/bin/" ./test/mkimage ./test/bench
go build -o "$stage/" ./test/host
"$stage/host" --overlay="$stage/root" --bind="$stage/work" --bind="$top" -- bench --dir="$stage/work" "$@"
