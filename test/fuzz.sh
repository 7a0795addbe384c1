#!/bin/bash
# Runs each fuzz target for a time: test/fuzz.sh [TIME], 30s by default. An input that fails is printed by go test, which also
# keeps it below testdata/fuzz of the package: add it to the repository with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-30s}
failed=() ran=0
while IFS=: read -r file target; do
	package=./$(dirname "$file")
	echo "== $package $target"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" || failed+=("$package $target")
	ran=$((ran + 1))
done < <(grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9]+' lib rkt* test | sed 's/:func /:/')
test "$ran" -gt 30 || { echo "test/fuzz.sh: found only $ran fuzz targets"; exit 1; }
test "${#failed[@]}" = 0 || { printf 'test/fuzz.sh: failed: %s\n' "${failed[@]}"; exit 1; }
