// Package notify carries what apps say by sd_notify(3) out of the pod. The pod's systemd hears all
// of it, as if the app had said it there; the host's systemd hears only what can do no harm there:
// STATUS=, WATCHDOG=1, WATCHDOG=trigger and EXTEND_TIMEOUT_USEC=. That a pod is ready the flavor
// says, when all of its apps are.
package notify

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/stage1/outbox"
	"golang.org/x/sys/unix"
)

// maxMessage is in bytes; more than systemd itself takes from anybody.
const maxMessage = 8 << 10

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
	toHost := outbox.New(slices.Collect(maps.Keys(sockets)))
	tick := time.NewTicker(outbox.Interval)
	for {
		select {
		case m := <-messages:
			toHost.Add(m.app, m.text)
			if text := toHost.BeforeReady(m.app, m.text); text != "" {
				if err := systemd.Notify(outer, []byte(text), nil); err != nil {
					return err
				}
			}
			if err := pass(inner, m); err != nil {
				return err
			}
		case <-tick.C:
			toHost.Remind(func() bool { _, err := os.Lstat(ready); return err == nil })
			if text := toHost.Take(); text != "" {
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
