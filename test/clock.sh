# What the benchmarks measure with; times are medians, in milliseconds.

# took COMMAND... prints how long the shell takes for a command, in microseconds.
took() {
	local start=${EPOCHREALTIME/./}
	"$@" >/dev/null || return
	echo $((${EPOCHREALTIME/./} - start))
}
# middle FILE... prints the median of the times in each file.
middle() {
	for name; do
		sort -n "$name" | awk '{ all[NR] = $1 } END { printf "%.1f ", all[int((NR + 1) / 2)] / 1000 }'
	done
}
# turns RUNS COMMAND... prints the median of each command, a line of the shell. They run in turn, since the speed of a machine changes from
# minute to minute; the first three rounds do not count.
turns() {
	local runs=$1 round command n
	shift
	for round in $(seq -2 "$runs"); do
		n=0
		for command; do
			n=$((n + 1))
			test "$round" != 1 || rm -f turns.$n
			took eval "$command" >>turns.$n 2>turns.said || { echo "$command: failed: $(cat turns.said)" >&2; return 1; }
		done
	done </dev/null
	middle $(seq -f turns.%g $n)
}
