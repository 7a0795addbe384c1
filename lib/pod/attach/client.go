package attach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/openat"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// ErrDetached is the end by the keys ^P ^Q. The app goes on.
var ErrDetached = errors.New("detached")

// Client is who attaches to an app.
type Client struct {
	App       string // "" is the pod's only one
	Mode      string // auto, tty, tty-in, tty-out, or a list of stdin, stdout and stderr
	CloseWith bool   // the end of Stdin is that of the app's standard input

	Stdin, Stdout, Stderr *os.File
	Log                   *slog.Logger
}

// Signaled is the error of a client that a signal has ended.
type Signaled unix.Signal

func (s Signaled) Error() string { return "ended by signal: " + unix.Signal(s).String() }

// Attach copies between the caller's standard streams and those of an app, until the app ends, the
// client is sent a signal (Signaled), or the keys ^P ^Q are typed (ErrDetached). A terminal is as
// it was before when it returns.
func (c Client) Attach(p running.Pod) error {
	a, err := find(p.Pod, c.App)
	if err != nil {
		return err
	}
	fail := func(err error) error { return fmt.Errorf("pod %s: app %q: %w", p.UUID, a.Name, err) }
	wanted, err := choose(c.Mode, endpoints(streamsOf(a)))
	if err != nil {
		return fail(err)
	}
	if c.CloseWith && !slices.Contains(wanted, stdin) {
		return fail(errors.New("--close-stdin: standard input is not attached to a pipe of the app's"))
	}
	conn, err := connect(p, a.Name)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := hello(conn, wanted); err != nil {
		return fail(err)
	}
	c.Log.Debug("attached", "pod", p.UUID, "app", a.Name, "endpoints", wanted)

	err = c.copy(conn, wanted)
	if err == nil || err == ErrDetached || errors.As(err, new(Signaled)) {
		return err
	}
	return fail(err)
}

// copy copies until the app ends, with the terminal in raw mode if there is one.
func (c Client) copy(conn *net.UnixConn, wanted []string) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE, unix.SIGWINCH)
	defer signal.Stop(signals)
	terminal := slices.Contains(wanted, ttyIn) && term.IsTerminal(int(c.Stdin.Fd()))
	if terminal {
		state, err := term.MakeRaw(int(c.Stdin.Fd()))
		if err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
		defer term.Restore(int(c.Stdin.Fd()), state)
		c.resize(conn)
	}
	done := make(chan error, 2)
	listens := slices.ContainsFunc(wanted, func(e string) bool { return e != stdin && e != ttyIn })
	go func() { done <- c.receive(conn, listens) }()
	if slices.Contains(wanted, stdin) || slices.Contains(wanted, ttyIn) {
		go func() {
			if err := c.send(conn, terminal, listens); err != nil {
				done <- err
			}
		}()
	}
	for {
		select {
		case err := <-done:
			return err
		case s := <-signals:
			switch s := s.(unix.Signal); s {
			case unix.SIGPIPE: // what was written to says so
			case unix.SIGWINCH:
				if terminal {
					c.resize(conn)
				}
			default:
				return Signaled(s)
			}
		}
	}
}

// connect waits until the app runs, and its socket is there. The path to that is the pod's to
// change: no link in it is followed, no mount is entered, and what is there need not be who is
// meant.
func connect(p running.Pod, app string) (*net.UnixConn, error) {
	var last error
	for end := time.Now().Add(answerTimeout); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		leader, err := p.Leader()
		if err != nil {
			return nil, err
		}
		if status, gone := p.AppStatus(app); gone {
			return nil, fmt.Errorf("pod %s: app %q has ended (exit status %d)", p.UUID, app, status)
		}
		last = errors.New("does not run")
		if len(p.Flavor.Processes(leader, app)) == 0 { // which has opened its standard streams when it is one
			continue
		}
		conn, err := dial(p, leader, app)
		if err == nil {
			return conn, nil
		}
		if last = err; !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ECONNREFUSED) {
			// rkt-attach is started anew
			break
		}
	}
	return nil, fmt.Errorf("pod %s: app %q: %w", p.UUID, app, last)
}

func dial(p running.Pod, leader int, app string) (*net.UnixConn, error) {
	run, err := unix.Open(fmt.Sprintf("/proc/%d/root%s", leader, "/run"),
		unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/run of the pod: %w", err)
	}
	defer unix.Close(run)
	if again, err := p.Leader(); err != nil || again != leader { // the number could be another process's by now
		return nil, errors.Join(errors.New("ends"), err)
	}
	path := strings.TrimPrefix(stage1.AttachDir, "/run/") + "/" + app + "/" + stage1.AttachSocket
	fd, err := openat.FD(run, path, unix.O_PATH, openat.OneMount)
	if err != nil {
		return nil, fmt.Errorf("/run/%s of the pod: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("/run/%s of the pod: is no socket", path)
	}
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d", fd),
		Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("/run/%s of the pod: %w", path, err)
	}
	return conn, nil
}

// hello asks for endpoints.
func hello(conn *net.UnixConn, wanted []string) error {
	conn.SetDeadline(time.Now().Add(answerTimeout))
	defer conn.SetDeadline(time.Time{})
	if _, err := conn.Write(append([]byte{attach}, strings.Join(wanted, " ")...)); err != nil {
		return fmt.Errorf("no answer from the pod: %w", err)
	}
	packet := make([]byte, 1+maxData)
	n, err := conn.Read(packet)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("no answer from the pod: %w", err)
	case n == 0 || packet[0] != attach && packet[0] != refused:
		return errors.New("no answer from the pod")
	case packet[0] == refused:
		return errors.New(string(packet[1:n]))
	}
	return nil
}

func (c Client) resize(conn *net.UnixConn) {
	if size, err := unix.IoctlGetWinsize(int(c.Stdin.Fd()), unix.TIOCGWINSZ); err == nil && size.Row > 0 &&
		size.Col > 0 {
		// it may not know
		packet := []byte{windowSize}
		packet = binary.BigEndian.AppendUint16(packet, size.Row)
		conn.Write(binary.BigEndian.AppendUint16(packet, size.Col))
	}
}

// receive writes what the app prints, until the app ends; where nothing is listened to, until all
// input has arrived.
func (c Client) receive(conn *net.UnixConn, listens bool) error {
	for packet := make([]byte, 1+maxData); ; {
		n, err := conn.Read(packet)
		if errors.Is(err, unix.ECONNRESET) {
			// once, when the other end is closed and has left input unread; what it sent comes next
			continue
		}
		if n == 0 || err != nil {
			return errors.New("the connection ended before the app: the pod was killed, or standard output has taken " +
				"nothing for too long")
		}
		to := c.Stdout
		switch packet[0] {
		case output:
		case errorOutput:
			to = c.Stderr
		case endOfInput:
			if !listens {
				return nil
			}
			continue
		case refused:
			return errors.New(string(packet[1:n]))
		case ended:
			return nil
		default:
			continue
		}
		if _, err := to.Write(packet[1:n]); err != nil {
			return fmt.Errorf("standard output: %w", err)
		}
	}
}

// send passes standard input on, and that it has ended if somebody wants to know.
func (c Client) send(conn *net.UnixConn, terminal, listens bool) error {
	var keys detacher
	packet := make([]byte, 1+maxData)
	packet[0] = input
	for {
		n, err := c.Stdin.Read(packet[1:maxData]) // keys.pass may add one byte
		data := packet[1 : 1+n]
		if terminal {
			var detached bool
			if data, detached = keys.pass(data); detached {
				return ErrDetached
			}
		}
		if len(data) > 0 {
			if _, err := conn.Write(append(packet[:1:1], data...)); err != nil {
				return nil // receive says why
			}
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) && !terminal {
			return fmt.Errorf("standard input: %w", err)
		}
		end := []byte{endOfInput}
		if c.CloseWith {
			end = append(end, "close"...)
		}
		if c.CloseWith || !listens {
			conn.Write(end)
		}
		return nil
	}
}

// detacher looks for ^P ^Q, the keys by which users of Docker and Podman detach.
type detacher struct{ held bool }

const ctrlP, ctrlQ = 'P' & 0x1f, 'Q' & 0x1f

// pass returns what is to be passed on of what was typed. A ^P is held back until it is known what
// follows.
func (d *detacher) pass(typed []byte) (data []byte, detached bool) {
	for _, key := range typed {
		if d.held {
			if key == ctrlQ {
				return data, true
			}
			data = append(data, ctrlP)
		}
		if d.held = key == ctrlP; !d.held {
			data = append(data, key)
		}
	}
	return data, false
}
