#!/bin/sh
# Prints the licenses of Go and of all modules that the programs contain.
#
#	dist/licenses.sh
set -eu
cd "$(dirname "$0")/.."
license() {
	for file in "$2"/LICENSE* "$2"/LICENCE* "$2"/COPYING*; do
		test ! -f "$file" || { printf '%s\n\n' "==== $1"; cat "$file"; echo; return; }
	done
	echo "$1 has no license in $2" >&2
	return 1
}
license Go "$(go env GOROOT)"
for module in $(go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}}@{{.Version}}={{.Dir}}{{end}}{{end}}' ./rkt ./rkt-*/ | LC_ALL=C sort -u); do
	license "${module%%=*}" "${module#*=}"
done
