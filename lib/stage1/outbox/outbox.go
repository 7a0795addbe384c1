// Package outbox is what the host's unit is told of what a pod's apps say by sd_notify(3): STATUS=,
// WATCHDOG=1, WATCHDOG=trigger and EXTEND_TIMEOUT_USEC=, which can do no harm there.
package outbox

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/printable"
)

// Interval is the time between two messages to the host, whatever the apps say.
const Interval = 100 * time.Millisecond

// Outbox gathers what the host is told next.
type Outbox struct {
	several bool
	status  string // what the host has not been told yet
	last    string // the latest one
	left    int    // how often the host is reminded of it still
	isReady bool
	extend  uint64 // microseconds
	trigger bool
	alive   map[string]bool // apps, and whether they have said so since the host was told
	ready   map[string]bool // apps that have said so
}

// New is for a pod with these apps that call sd_notify(3).
func New(apps []string) *Outbox {
	o := &Outbox{several: len(apps) > 1, alive: map[string]bool{}, ready: map[string]bool{}}
	for _, app := range apps {
		o.alive[app] = false
	}
	return o
}

// Add takes a message of an app.
func (o *Outbox) Add(app string, text []byte) {
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch {
		case name == "STATUS":
			o.status = printable.Line(value) // which "systemctl status" prints as it is
			if o.several {
				o.status = app + ": " + o.status
			}
			o.last = o.status
		case name == "WATCHDOG" && value == "1":
			o.alive[app] = true
		case name == "WATCHDOG" && value == "trigger":
			o.trigger = true
		case name == "EXTEND_TIMEOUT_USEC":
			if n, err := strconv.ParseUint(value, 10, 64); err == nil {
				o.extend = n
			}
		}
	}
}

// BeforeReady returns what the host must be told before an app's first READY=1 gets to the pod's
// systemd, by which the unit on the host may become active: the status that the app has then. Take
// tells it again.
func (o *Outbox) BeforeReady(app string, text []byte) string {
	if o.ready[app] || !slices.Contains(strings.Split(string(text), "\n"), "READY=1") {
		return ""
	}
	o.ready[app] = true
	if o.status == "" {
		return ""
	}
	return "STATUS=" + o.status
}

// reminders are sent at intervals: for two seconds.
const reminders = 20

// Remind has the host told the latest status again for a while after the pod has become ready: from
// 258 on systemd-nspawn says "Container running." in its place at that moment.
func (o *Outbox) Remind(ready func() bool) {
	if !o.isReady && ready() {
		o.isReady, o.left = true, reminders
	}
	if o.left > 0 {
		o.left--
		o.status = o.last
	}
}

// Take is the next message to the host; "" if there is nothing to tell. The pod is alive when each
// of its apps is.
func (o *Outbox) Take() string {
	var lines []string
	if o.status != "" {
		lines = append(lines, "STATUS="+o.status)
	}
	if o.extend != 0 {
		lines = append(lines, "EXTEND_TIMEOUT_USEC="+strconv.FormatUint(o.extend, 10))
	}
	if o.trigger {
		lines = append(lines, "WATCHDOG=trigger")
	}
	all := true
	for _, alive := range o.alive {
		all = all && alive
	}
	if all {
		lines = append(lines, "WATCHDOG=1")
		for app := range o.alive {
			o.alive[app] = false
		}
	}
	o.status, o.extend, o.trigger = "", 0, false
	return strings.Join(lines, "\n")
}
