package pid1

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
	"github.com/rkt-toolkit/rkt/lib/stage1/outbox"
	"golang.org/x/sys/unix"
)

// maxMessage is how much of what an app says by sd_notify(3) is read.
const maxMessage = 8 << 10

// pipeSize is twice what the longest line takes.
const pipeSize = 128 << 10

// path is a name in the app's directory of streams.
func (a *process) path(name string) string { return filepath.Join(streams.Dir, a.Name, name) }

// prepare makes what the apps have of the pod, and reads what they print from then on.
func (p *pod) prepare() error {
	if p.plan.Terminal {
		var err error
		if p.console, err = unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
	}
	var fds []int
	var notifying []string
	for _, planned := range p.plan.Apps {
		if planned.Notify {
			notifying = append(notifying, planned.Name)
		}
	}
	p.news = outbox.New(notifying)
	if len(notifying) == 0 && p.plan.Watchdog > 0 {
		p.vouch()
	}
	for _, planned := range p.plan.Apps {
		a := &process{App: planned, of: p}
		p.apps = append(p.apps, a)
		made, err := a.makeStreams()
		if err != nil {
			return fmt.Errorf("app %q: %w", a.Name, err)
		}
		fds = append(fds, made...)
		if err := errors.Join(a.listen(), a.hearServer()); err != nil {
			return fmt.Errorf("app %q: %w", a.Name, err)
		}
	}
	if len(fds) == 0 {
		return nil
	}
	ready := make(chan error, 1)
	go func() {
		err := streams.ServeFrom(p.plan.UUID, fds, func() { ready <- nil })
		select {
		case ready <- err:
		default:
			tell(err)
		}
	}()
	return <-ready
}

// makeStreams makes the app's pipe and sockets, and returns those that are to be read.
func (a *process) makeStreams() (fds []int, err error) {
	if err := os.MkdirAll(a.path(""), 0o755); err != nil {
		return nil, err
	}
	if a.Output {
		if err := unix.Mkfifo(a.path(streams.Output), 0o600); err != nil {
			return nil, err
		}
		if err := os.Chmod(a.path(streams.Output), 0o666); err != nil { // any user of the app may open /dev/stdout
			return nil, err
		}
		fd, err := unix.Open(a.path(streams.Output), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
		fds = append(fds, fd)
	}
	var sockets []string
	if a.Syslog {
		sockets = append(sockets, filepath.Join(streams.DevDir, a.Name, streams.Syslog))
	}
	if a.Journal {
		sockets = append(sockets, a.path(streams.Journal), a.path(streams.Ended))
	}
	for _, path := range sockets {
		fd, err := datagram(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// datagram is a socket that anybody may write to, and that tells who did.
func datagram(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err == nil {
		if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
			err = os.Chmod(path, 0o666)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// listen takes what the app says by sd_notify(3).
func (a *process) listen() error {
	if !a.Notify {
		return nil
	}
	path := plan.NotifySocket(a.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return err
	}
	go func() {
		message := make([]byte, maxMessage)
		for {
			n, err := socket.Read(message)
			if err != nil {
				return
			}
			text := bytes.Clone(message[:n])
			a.of.events <- func() { a.of.heard(a, text) }
		}
	}()
	return nil
}
