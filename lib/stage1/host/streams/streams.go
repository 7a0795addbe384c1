// Package streams carries what the apps of a pod print, line by line: to the pod's journal, and to
// the host's or to the pod's console. An app's standard output and error are a named pipe, which
// the pod's systemd has open, too. It starts Serve when the first byte waits in one.
package streams

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/activation"
	"golang.org/x/sys/unix"
)

// gcPercent keeps the heap small: by default Go collects none below 4 MB.
const gcPercent = 10

// often is how often the program gives back its own pages under load, and after how much time
// without news.
const often = 20 * time.Millisecond

// Serve takes the pod's UUID, and the pipes of all apps from systemd. It passes lines on until an
// error that it returns.
func Serve(args []string) error {
	pipes := activation.Names(os.Getenv, os.Getpid())
	if len(args) != 1 || len(pipes) == 0 {
		return errors.New("not UUID, with pipes from systemd")
	}
	fds := make([]int, len(pipes))
	for i := range pipes {
		fds[i] = activation.First + i
	}
	return ServeFrom(args[0], fds, func() {})
}

// ServeFrom is Serve for a pod of that UUID with these pipes and sockets. It calls begins when it
// is about to read.
func ServeFrom(pod string, fds []int, begins func()) error {
	to, err := openSink(pod)
	if err != nil {
		return err
	}
	debug.SetGCPercent(gcPercent)
	s, err := newScratch()
	if err != nil {
		return err
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return failed("epoll", err)
	}
	var readers []reader
	apps := map[string]*app{}
	for i, fd := range fds {
		unix.CloseOnExec(fd)
		path, err := pathOf(fd)
		if err != nil {
			return err
		}
		dir, stream := filepath.Split(path)
		name := filepath.Base(dir)
		if apps[name] == nil {
			if apps[name], err = openApp(name); err != nil {
				return err
			}
		}
		read, err := apps[name].reader(fd, stream, s, to)
		if err != nil {
			return err
		}
		readers = append(readers, read)
		// Edge-triggered: an incomplete line stays in the pipe, and only more of it is news.
		event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(i)}
		if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return failed(path, err)
		}
	}
	begins()
	return serve(poll, readers)
}

// pathOf is where a pipe or a socket is.
func pathOf(fd int) (string, error) {
	switch address, err := unix.Getsockname(fd); address := address.(type) {
	case *unix.SockaddrUnix:
		return address.Name, nil
	default:
		if !errors.Is(err, unix.ENOTSOCK) {
			return "", failed("address of a socket", err)
		}
	}
	return os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
}

// reader returns what reads the pipe or socket of that name. Those of an app come in any order.
func (a *app) reader(fd int, stream string, s *scratch, to *sink) (reader, error) {
	switch stream {
	case Syslog:
		a.syslog.fd = fd
		return func() (bool, error) { return a.drainSyslog(s, to) }, nil
	case Journal:
		a.journal.fd = fd
		return func() (bool, error) { return a.drainJournal(s, to) }, nil
	case Ended:
		return func() (bool, error) {
			for more := a.syslog.fd >= 0; more; {
				var err error
				if more, err = a.drainSyslog(s, to); err != nil {
					return false, err
				}
			}
			for more := a.journal.fd >= 0; more; {
				var err error
				if more, err = a.drainJournal(s, to); err != nil {
					return false, err
				}
			}
			return false, dropAll(fd)
		}, nil
	}
	p, err := newPipe(fd, s)
	return func() (bool, error) { return a.drain(p, stream, false, to) }, err
}

// reader passes on a chunk of what waits in a pipe, and reports whether there may be more.
type reader func() (more bool, err error)

// serve gives each pipe its turn, so that an app that prints much does not keep another one's
// lines.
func serve(poll int, readers []reader) error {
	events := make([]unix.EpollEvent, len(readers))
	waits := make([]bool, len(readers)) // whether there may be something in the pipe
	program := programText()
	isBusy := false
	var forgot time.Time
	for {
		if time.Since(forgot) > often {
			program.forget()
			forgot = time.Now()
		}
		timeout := often.Milliseconds()
		if isBusy {
			timeout = 0
		}
		n, err := unix.EpollWait(poll, events, int(timeout))
		if err == nil && n == 0 && !isBusy {
			program.forget()
			n, err = unix.EpollWait(poll, events, -1)
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return failed("epoll", err)
		}
		for _, event := range events[:n] {
			waits[event.Fd] = true
		}
		isBusy = false
		for i, read := range readers {
			if !waits[i] {
				continue
			}
			if waits[i], err = read(); err != nil {
				return err
			}
			isBusy = isBusy || waits[i]
		}
	}
}

// Rest passes on what an app has printed that has ended, and nobody has read yet.
func Rest(name string) error {
	return errors.Join(rest(name, Output, Health), awaitSyslog(name))
}

// rest is Rest for the pipes of these names.
func rest(name string, names ...string) error {
	pod, err := uuid()
	if err != nil {
		return err
	}
	s, err := newScratch()
	if err != nil {
		return err
	}
	var a *app
	var to *sink
	var errs []error
	for _, stream := range names {
		p, err := openPipe(filepath.Join(Dir, name, stream), s)
		if err != nil || p == nil {
			errs = append(errs, err)
			continue
		}
		if p.empty() {
			continue
		}
		if to == nil {
			if to, err = openSink(pod); err != nil {
				return errors.Join(append(errs, err)...)
			}
			if a, err = openApp(name); err != nil {
				return errors.Join(append(errs, err)...)
			}
		}
		for more := true; more; {
			if more, err = a.drain(p, stream, true, to); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// empty reports whether nothing waits.
func (p *pipe) empty() bool {
	n, err := unix.IoctlGetInt(p.fd, unix.TIOCINQ)
	return err == nil && n == 0
}

// Say tells something of an app, as if the app had printed it with the priority "err".
func Say(name, text string) error {
	pod, err := uuid()
	if err != nil {
		return err
	}
	to, err := openSink(pod)
	if err != nil {
		return err
	}
	err = to.write(record{app: name, pid: os.Getpid(), priority: failure, facility: daemon, text: []byte(text)},
		nil, true)
	return errors.Join(err, to.flush())
}

// uuid is the pod's, from its machine ID, which has no dashes.
func uuid() (string, error) {
	text, err := os.ReadFile("/etc/machine-id")
	id := strings.TrimSpace(string(text))
	if err != nil || len(id) != 32 {
		return "", errors.Join(errors.New("/etc/machine-id: no ID"), err)
	}
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:], nil
}
