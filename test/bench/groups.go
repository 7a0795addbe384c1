package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// setup makes images and roots in $B: small, 1 MB; ten, 200 and 2000 with a file of so many MB;
// first, a program that prints the time. Podman's store is there, too, on the same file system.
const setup = `set -e
mkimage busybox small
mkimage big ten 10000000
mkimage big big200 200000000
mkimage big big2000 2000000000
mkimage program first /images/first
for image in small ten big200 big2000 first; do rkt-fetch --full --quiet oci:$image >$image.id; done
mkdir root
skopeo copy --quiet --format=oci oci:small oci:converted:x
umoci unpack --image converted:x bundle >/dev/null
mv bundle/rootfs root/fs
mkdir -p root/fs/proc root/fs/sys root/fs/dev root/fs/run root/fs/tmp root/fs/etc root/fs/usr
touch root/fs/etc/os-release root/fs/etc/machine-id
if command -v podman >/dev/null; then
	for image in small first; do
		skopeo copy --quiet oci:$image oci-archive:$image.tar
		id=$(` + podman + ` load --quiet -i $image.tar | sed 's/.*: *//')
		` + podman + ` tag $id $image
	done
fi`

const teardown = `test ! -d storage || ` + podman + ` system reset --force >/dev/null 2>&1
rkt-gc --grace-period=0s --expire-prepared=0s >/dev/null`

// podman is the peer, with a store in $B. Without the controllers of cgroups, which a disposable
// host does not have, it makes no cgroup.
const (
	podman = "podman --root=$B/storage --runroot=/run/bench-podman"
	alone  = podman + " run --rm --cgroups=disabled"
)

// Lines around the commands. idlePod and idleContainer start one that waits.
const (
	idlePod = "systemd-run --quiet --unit=idle -p Type=notify -p Delegate=yes " +
		"rkt run --pod-name=idle --net=none $(cat small.id) --exec=/bin/sh -- " + waits + " >/dev/null && sleep 0.5"
	idleContainer = podman + " run --detach --rm --cgroups=disabled --network=none --name=idle " +
		"--entrypoint=/bin/sh small " + waits + " >/dev/null && sleep 0.5"
	waits   = "-c 'trap \"exit 0\" TERM; sleep 1000 & wait'"
	collect = "rkt-gc --grace-period=0s --expire-prepared=0s >/dev/null"
	one     = "rkt-prepare $(cat small.id) --exec=/bin/true >prepared"
	detach  = "rkt-net del $(cat prepared); " + collect
)

var groups = []Group{
	start("start-none", "A container without a network, from the call to its end", "none",
		Target{"rkt run, init", "podman run", 0.35}, Target{"rkt run", "podman run", 0.8}),
	start("start-default", "The same with the default network", "default",
		Target{"rkt run, init", "podman run", 0.4}, Target{"rkt run", "podman run", 0.5}),
	start("start-host", "The same with the host's network", "host"),
	first(),
	share,
	{Name: "prepare", Title: "rkt-prepare of images of several sizes", Unit: "ms", Rounds: 15, Entries: Entries{
		prepared("1 MB", "small"), prepared("10 MB", "ten"),
		prepared("200 MB", "big200"), prepared("2 GB", "big2000"),
	}, Targets: []Target{{"2 GB", "10 MB", math.Pow(200, 0.05)}}},
	{Name: "stop", Title: "The stop of an idle app that ends at its signal", Unit: "ms", Rounds: 10, Entries: Entries{
		{Name: "systemctl stop, of rkt", Before: idlePod, Command: "systemctl stop idle", After: collect},
		{Name: "podman stop", Needs: "podman", Before: idleContainer,
			Command: podman + " stop --time=20 idle >/dev/null"},
	}},
	memory(1), memory(20),
	used("peak", "The most memory that a program has at once", "MB resident", "%M", 1000,
		Target{"rkt-fetch, big2000", "", 40}, Target{"rkt-prepare", "", 15}, Target{"rkt-run-prepared, host", "", 15},
		Target{"rkt-run-prepared, init", "", 15}),
	used("wear", "What is written to the disk", "MB", "%O", 1e6/512),
	many("prepare", "Prepared, one after the other", func(n int) Entry {
		line := fmt.Sprintf("for i in $(seq %d); do rkt-prepare $(cat small.id) --exec=/bin/true; done >/dev/null", n)
		return Entry{Command: line, After: collect}
	}),
	many("list", "Listed", func(n int) Entry {
		return Entry{Before: pods(n), Command: "rkt-list >/dev/null", After: collect}
	}),
	many("collect", "Collected", func(n int) Entry {
		return Entry{Before: pods(n), Command: collect}
	}),
}

// share are the toolkit's own steps.
var share = Group{
	Name: "share", Title: "The steps of a start, and the toolkit's share of it", Unit: "ms", Rounds: 25,
	Entries: Entries{
		{Name: "rkt run, until systemd-nspawn starts", Before: collect, After: collect, Figure: until,
			Command: "rkt run --net=none $(cat small.id) --exec=/bin/true; " +
				"stat --format=%.9Y /var/lib/rkt/pods/*/started | tr -d ."},
		{Name: "rkt-prepare", Command: one, After: collect},
		{Name: "rkt-net add, no network", Before: one,
			Command: "rkt-net add --net=none $(cat prepared)", After: detach},
		{Name: "rkt-net add, default network", Before: one, Command: "rkt-net add $(cat prepared)", After: detach},
		{Name: "rkt-net del, default network", Before: one + "; rkt-net add $(cat prepared)",
			Command: "rkt-net del $(cat prepared)", After: collect},
		{Name: "rkt-run-prepared, to the pod's end", Before: one + "; rkt-net add --net=none $(cat prepared)",
			Command: "rkt-run-prepared $(cat prepared)", After: detach},
		{Name: "rkt-gc", Before: "rkt run --net=none $(cat small.id) --exec=/bin/true", Command: collect},
		{Name: "systemd-run --wait true", Command: "systemd-run --quiet --wait /bin/true"},
		{Name: "rkt-net --help", Command: "rkt-net --help >/dev/null"},
		{Name: "/bin/true", Command: "/bin/true"},
	},
	Targets: []Target{{"rkt run, until systemd-nspawn starts", "systemd-run --wait true", 0.5}},
}

// rkt is a command line of rkt run, with the flavor's flag.
func rkt(flavor, rest string) string {
	if flavor != "" {
		return "rkt run --stage1-name=" + flavor + " " + rest
	}
	return "rkt run " + rest
}

// start measures a container that does nothing.
func start(name, title, network string, targets ...Target) Group {
	g := Group{Name: name, Title: title, Unit: "ms", Rounds: 25, Targets: targets}
	for _, flavor := range []string{"", "init"} {
		g.Entries = append(g.Entries, Entry{Name: named(flavor), If: hasFlavor(flavor), After: collect,
			Command: rkt(flavor, "--net="+network+" $(cat small.id) --exec=/bin/true")})
	}
	if network == "host" {
		g.Entries = append(g.Entries, Entry{Name: named("fly"), If: hasFlavor("fly"), After: collect,
			Command: rkt("fly", "$(cat small.id) --exec=/bin/true")})
	}
	peer := strings.Replace(network, "default", "podman", 1)
	g.Entries = append(g.Entries, Entry{Name: "podman run", Needs: "podman",
		Command: alone + " --network=" + peer + " --entrypoint=/bin/true small"})
	if network == "none" {
		g.Entries = append(g.Entries,
			Entry{Name: "systemd-nspawn",
				Command: "systemd-nspawn --quiet --register=no --private-network --directory=root/fs /bin/true"},
			Entry{Name: "systemd-run, RootDirectory=",
				Command: "systemd-run --quiet --wait -p RootDirectory=$B/root/fs /bin/true"},
			Entry{Name: "systemd-run", Command: "systemd-run --quiet --wait /bin/true"})
		g.Targets = append(g.Targets, Target{"rkt run, init", "systemd-nspawn", 1})
	}
	return g
}

// named is the name of an entry.
func named(flavor string) string {
	if flavor == "" {
		return "rkt run"
	}
	return "rkt run, " + flavor
}

// hasFlavor is a line that fails if the toolkit does not have a flavor of pods; "" is the default.
func hasFlavor(name string) string {
	if name == "" {
		return ""
	}
	return rkt(name, "--net=host $(cat small.id) --exec=/bin/true") + " && " + collect
}

// until takes the time of the call and, as the last word, that of an event, in nanoseconds since
// 1970, and returns the milliseconds in between.
func until(_ *bench, output string, _ time.Duration) (float64, error) {
	fields := strings.Fields(output)
	if len(fields) < 2 {
		return 0, errors.New("the app printed nothing")
	}
	from, err := strconv.ParseInt(fields[0], 10, 64)
	to, err2 := strconv.ParseInt(fields[len(fields)-1], 10, 64)
	return float64(to-from) / 1e6, errors.Join(err, err2)
}

// first measures how long it takes until the app's program runs, which prints the time.
func first() Group {
	g := Group{Name: "first", Title: "To the first instruction of the app, without a network", Unit: "ms", Rounds: 25}
	for _, flavor := range []string{"", "init"} {
		g.Entries = append(g.Entries, Entry{Name: named(flavor), If: hasFlavor(flavor), After: collect, Figure: until,
			Command: rkt(flavor, "--net=none $(cat first.id)")})
	}
	g.Entries = append(g.Entries,
		Entry{Name: "podman run", Needs: "podman", Command: alone + " --network=none first", Figure: until})
	return g
}

// used measures what each program uses of something, by a format of time(1), in units of which so
// many are one of the group's. rkt-run-prepared goes on as what it becomes.
func used(name, title, unit, format string, units float64, targets ...Target) Group {
	figure := func(_ *bench, output string, _ time.Duration) (float64, error) {
		fields := strings.Fields(output)
		n, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		return n / units, err
	}
	g := Group{Name: name, Title: title, Unit: unit, Rounds: 5, Targets: targets}
	add := func(name, before, command, after string) {
		g.Entries = append(g.Entries, Entry{Name: name, Before: before, After: after, Figure: figure,
			Command: "command time --output=used --format=" + format + " " + command + " >/dev/null; tail -n 1 used"})
	}
	for _, image := range []string{"ten", "big200", "big2000"} {
		add("rkt-fetch, "+image, "rkt-image rm $(cat "+image+".id) >/dev/null; sync",
			"rkt-fetch --quiet oci:"+image, "")
	}
	add("rkt-prepare", "", "rkt-prepare $(cat small.id) --exec=/bin/true", collect)
	add("rkt-net add, default network", one, "rkt-net add $(cat prepared)", detach)
	for _, flavor := range []string{"host", "init"} {
		add("rkt-run-prepared, "+flavor, strings.Replace(one, "rkt-prepare", "rkt-prepare --stage1-name="+flavor, 1)+
			"; rkt-net add --net=none $(cat prepared)", "rkt-run-prepared $(cat prepared)", detach)
	}
	add("rkt-gc", "rkt run --net=none $(cat small.id) --exec=/bin/true", collect, "")
	return g
}

func prepared(name, image string) Entry {
	return Entry{Name: name, After: collect,
		Command: "rkt-prepare $(cat " + image + ".id) --exec=/bin/true >/dev/null"}
}

// memory measures what all processes of pods take beside the app, proportionally (PSS).
func memory(n int) Group {
	figure := func(_ *bench, output string, _ time.Duration) (float64, error) {
		fields := strings.Fields(output)
		kilobytes, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		return kilobytes / 1024 / float64(n), err
	}
	g := Group{Name: fmt.Sprintf("memory-%d", n), Title: fmt.Sprintf("Memory beside the app, of each of %d pods", n),
		Unit: "MB of PSS", Rounds: 3, Long: true}
	each := fmt.Sprintf("for i in $(seq %d); do ", n)
	for _, flavor := range []string{"", "init"} {
		g.Entries = append(g.Entries, Entry{Name: named(flavor), If: hasFlavor(flavor), Figure: figure,
			Before: each + "systemd-run --quiet --unit=idle$i -p Type=notify -p Delegate=yes " +
				rkt(flavor, "--net=none $(cat small.id) --exec=/bin/sh -- -c 'echo begun; exec sleep 1000'") +
				"; done; sleep 2",
			Command: "find /sys/fs/cgroup -path '*/idle*' -name cgroup.procs -exec cat {} + | sort -u | " +
				pss("grep -qx sleep /proc/$pid/comm || "),
			After: "systemctl stop 'idle*'; " + collect})
	}
	g.Entries = append(g.Entries, Entry{Name: "podman run, conmon", Needs: "podman", Figure: figure,
		Before: each + podman + " run --detach --cgroups=disabled --network=none --name=idle$i " +
			"--entrypoint=/bin/sleep small 1000; done >/dev/null; sleep 2",
		Command: "pgrep -x conmon | " + pss(""),
		After:   podman + " rm --force --all --time=0 >/dev/null"})
	return g
}

// pss adds up the PSS of processes whose numbers it reads, in kilobytes, except for those that a
// command before the || finds.
func pss(except string) string {
	return "while read -r pid; do " + except + "grep ^Pss: /proc/$pid/smaps_rollup; done 2>/dev/null | " +
		"awk '{ n += $2 } END { print n }'"
}

// many measures how something grows with the number of pods.
func many(name, title string, of func(n int) Entry) Group {
	g := Group{Name: "many-" + name, Title: title, Unit: "ms", Rounds: 3, Long: true}
	for _, n := range []int{10, 100, 1000} {
		e := of(n)
		e.Name = fmt.Sprintf("%d pods", n)
		g.Entries = append(g.Entries, e)
	}
	return g
}

// pods is a line that prepares so many.
func pods(n int) string {
	return fmt.Sprintf("seq %d | xargs -P 2 -I{} rkt-prepare --quiet $(cat small.id) --exec=/bin/true >/dev/null", n)
}
