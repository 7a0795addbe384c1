// Package notify carries what apps say by sd_notify(3) out of the pod. The pod's systemd hears all
// of it, as if the app had said it there; the host's systemd hears only what can do no harm there:
// STATUS=, WATCHDOG=1, WATCHDOG=trigger and EXTEND_TIMEOUT_USEC=. That a pod is ready the flavor
// says, when all of its apps are.
package notify

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/printable"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"golang.org/x/sys/unix"
)

const (
	maxMessage = 8 << 10                // bytes; more than systemd itself takes from anybody
	interval   = 100 * time.Millisecond // between two messages to the host, whatever the apps say
)

// message is one datagram of an app's.
type message struct {
	app   string
	text  []byte
	creds *unix.Ucred // of who sent it, checked by the kernel
}

// Serve carries messages until an error that it returns. sockets are datagram sockets by the name
// of their app, that have PassCredentials=; inner and outer are the paths of the sockets of the
// pod's systemd and the host's, ready that of a file which is there once the pod is ready.
func Serve(sockets map[string]*net.UnixConn, inner, outer, ready string) error {
	messages, failed := make(chan message), make(chan error, len(sockets))
	for app, socket := range sockets {
		go func() { failed <- receive(app, socket, messages) }()
	}
	toHost := newOutbox(sockets)
	tick := time.NewTicker(interval)
	for {
		select {
		case m := <-messages:
			toHost.add(m)
			if text := toHost.beforeReady(m); text != "" {
				if err := systemd.Notify(outer, []byte(text), nil); err != nil {
					return err
				}
			}
			if err := pass(inner, m); err != nil {
				return err
			}
		case <-tick.C:
			toHost.remind(func() bool { _, err := os.Lstat(ready); return err == nil })
			if text := toHost.take(); text != "" {
				if err := systemd.Notify(outer, []byte(text), nil); err != nil {
					return err
				}
			}
		case err := <-failed:
			return err
		}
	}
}

// receive reads one app's socket. Descriptors that come along are closed by the kernel: there is no
// room for them.
func receive(app string, socket *net.UnixConn, to chan<- message) error {
	text, control := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		n, nc, flags, _, err := socket.ReadMsgUnix(text, control)
		if err != nil {
			return fmt.Errorf("socket of app %s: %w", app, err)
		}
		if flags&unix.MSG_TRUNC != 0 {
			continue
		}
		m := message{app: app, text: append([]byte{}, text[:n]...)}
		parts, err := unix.ParseSocketControlMessage(control[:nc])
		if err != nil {
			continue
		}
		for i := range parts {
			if creds, err := unix.ParseUnixCredentials(&parts[i]); err == nil {
				m.creds = creds
			}
		}
		if m.creds != nil {
			to <- m
		}
	}
}

// pass gives a message to the pod's systemd in the name of who sent it. One of a process that is
// gone is lost.
func pass(inner string, m message) error {
	err := systemd.Notify(inner, m.text, unix.UnixCredentials(m.creds))
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

// outbox gathers what the host is told next.
type outbox struct {
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

func newOutbox(sockets map[string]*net.UnixConn) *outbox {
	o := &outbox{several: len(sockets) > 1, alive: map[string]bool{}, ready: map[string]bool{}}
	for app := range sockets {
		o.alive[app] = false
	}
	return o
}

func (o *outbox) add(m message) {
	for line := range strings.Lines(string(m.text)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch {
		case name == "STATUS":
			o.status = printable.Line(value) // which "systemctl status" prints as it is
			if o.several {
				o.status = m.app + ": " + o.status
			}
			o.last = o.status
		case name == "WATCHDOG" && value == "1":
			o.alive[m.app] = true
		case name == "WATCHDOG" && value == "trigger":
			o.trigger = true
		case name == "EXTEND_TIMEOUT_USEC":
			if n, err := strconv.ParseUint(value, 10, 64); err == nil {
				o.extend = n
			}
		}
	}
}

// beforeReady returns what the host must be told before an app's first READY=1 gets to the pod's
// systemd, by which the unit on the host may become active: the status that the app has then. take
// tells it again.
func (o *outbox) beforeReady(m message) string {
	if o.ready[m.app] || !slices.Contains(strings.Split(string(m.text), "\n"), "READY=1") {
		return ""
	}
	o.ready[m.app] = true
	if o.status == "" {
		return ""
	}
	return "STATUS=" + o.status
}

// reminders are sent at intervals: for two seconds.
const reminders = 20

// remind has the host told the latest status again for a while after the pod has become ready: from
// 258 on systemd-nspawn says "Container running." in its place at that moment.
func (o *outbox) remind(ready func() bool) {
	if !o.isReady && ready() {
		o.isReady, o.left = true, reminders
	}
	if o.left > 0 {
		o.left--
		o.status = o.last
	}
}

// take is the next message to the host; "" if there is nothing to tell. The pod is alive when each
// of its apps is.
func (o *outbox) take() string {
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
