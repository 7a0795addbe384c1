package attach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// server is who serves one app.
type server struct {
	dir       string // the app's own
	endpoints []string
	store     *fdStore
	terminal  *os.File // the host's side of it; nil if there is none
	// the app's side, held so that the terminal does not end between two programs of the app
	slave   *os.File
	outputs map[string]*os.File // what is read, by endpoint

	inputLock sync.Mutex
	stdin     *os.File // the pipe; nil if there is none, or it was closed

	clientsLock sync.Mutex
	clients     map[*client]bool
	stopping    atomic.Bool
}

// client is one that is attached.
type client struct {
	conn      *net.UnixConn
	endpoints []string
}

// Serve serves an app, whose directory in stage1.AttachDir is dir, until SIGTERM, by which the
// pod's systemd says that the app has ended; then all that the app has printed is delivered.
// streams has how the app's stdin, stdout and stderr were given to it. What is open already when it
// begins, of a process before this one that was killed, was kept by systemd
// (sd_listen_fds_with_names(3)).
func Serve(dir string, streams map[string]stage1.Stream, getenv func(string) string, pid int) error {
	s := &server{dir: dir, outputs: map[string]*os.File{}, clients: map[*client]bool{},
		endpoints: endpoints(func(name string) stage1.Stream { return streams[name] })}
	var err error
	if s.store, err = newStore(getenv, pid); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	listener, err := s.listen()
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				failed <- err
				return
			}
			go s.serve(conn)
		}
	}()
	var pumps sync.WaitGroup
	for endpoint, from := range s.outputs {
		pumps.Go(func() { s.pump(endpoint, from) })
	}
	if err := s.store.notify("READY=1", nil); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	case <-stop:
	}
	s.stopping.Store(true)
	s.eachClient(func(c *client) { c.conn.SetWriteDeadline(time.Now().Add(endTimeout)) })
	for _, from := range s.outputs {
		from.SetReadDeadline(time.Unix(1, 0))
	}
	pumps.Wait()
	for endpoint, from := range s.outputs {
		s.drain(endpoint, from)
	}
	s.eachClient(func(c *client) { c.conn.Write([]byte{ended}) })
	return nil
}

// listen makes the socket of the server, in place of the one of a server before it.
func (s *server) listen() (*net.UnixListener, error) {
	socket := filepath.Join(s.dir, stage1.AttachSocket)
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	return listener, os.Chmod(socket, 0o600)
}

// open makes the app's pipes and its terminal, or takes those that were kept.
func (s *server) open() (err error) {
	if slices.Contains(s.endpoints, stdin) {
		info, err := os.Lstat(filepath.Join(s.dir, stage1.StdinPipe))
		if err == nil && info.Mode().IsRegular() { // it was closed
			s.store.forget(stdin)
		} else if s.stdin, err = s.pipe(stage1.StdinPipe); err != nil {
			return err
		}
	}
	for _, name := range []string{stdout, stderr} {
		if slices.Contains(s.endpoints, name) {
			if s.outputs[name], err = s.pipe(name); err != nil {
				return err
			}
		}
	}
	if slices.Contains(s.endpoints, ttyIn) || slices.Contains(s.endpoints, ttyOut) {
		if err := s.openTerminal(); err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
		s.outputs[ttyOut] = s.terminal // read also if it only echoes
	}
	return nil
}

// pipe opens one of the app's pipes, which the app opens by its path. It is opened for both
// directions: so the app need not wait for anybody, and does not end by SIGPIPE.
func (s *server) pipe(name string) (*os.File, error) {
	if kept := s.store.take(name); kept != nil {
		return kept, nil
	}
	path := filepath.Join(s.dir, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, &fs.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	if err := os.Chmod(path, 0o666); err != nil { // the app's user opens it again as /dev/stdout; nobody else sees it
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return file, s.store.keep(name, file)
}

// openTerminal makes the app's terminal, and the link by which the pod's systemd finds it.
func (s *server) openTerminal() (err error) {
	if s.terminal = s.store.take(stage1.TerminalLink); s.terminal == nil {
		if s.terminal, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		if err := control(s.terminal, func(fd int) error {
			return unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
		}); err != nil {
			return err
		}
		if err := s.resize(24, 80); err != nil {
			return err
		}
		if err := s.store.keep(stage1.TerminalLink, s.terminal); err != nil {
			return err
		}
	}
	return control(s.terminal, func(fd int) error {
		peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER,
			unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
		if errno != 0 {
			return errno
		}
		s.slave = os.NewFile(peer, "terminal")
		n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
		if err != nil {
			return err
		}
		link := filepath.Join(s.dir, stage1.TerminalLink)
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.Symlink(fmt.Sprintf("/dev/pts/%d", n), link)
	})
}

func (s *server) resize(rows, columns uint16) error {
	return control(s.terminal, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	})
}

// control does something with a file's descriptor and leaves the file as it is: os.File.Fd would
// have it block.
func control(file *os.File, do func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) { err = do(int(fd)) })
	return errors.Join(failed, err)
}

// pump sends what the app prints to those who want it, until the reading is ended. What nobody
// wants is dropped.
func (s *server) pump(endpoint string, from *os.File) {
	for packet := newPacket(endpoint); ; {
		n, err := from.Read(packet[1:])
		if err != nil {
			return
		}
		s.send(endpoint, packet[:1+n])
	}
}

// drain is pump for what is there still when the app has ended.
func (s *server) drain(endpoint string, from *os.File) {
	control(from, func(fd int) error {
		for packet := newPacket(endpoint); ; {
			n, err := unix.Read(fd, packet[1:])
			if err == unix.EINTR {
				continue
			}
			if err != nil || n == 0 {
				return err
			}
			s.send(endpoint, packet[:1+n])
		}
	})
}

func newPacket(endpoint string) []byte {
	packet := make([]byte, 1+maxData)
	packet[0] = output
	if endpoint == stderr {
		packet[0] = errorOutput
	}
	return packet
}

// send waits for clients that do not take it, but only for so long: then they are not attached any
// more.
func (s *server) send(endpoint string, packet []byte) {
	s.eachClient(func(c *client) {
		if !slices.Contains(c.endpoints, endpoint) {
			return
		}
		waitLimit := outputTimeout
		if s.stopping.Load() {
			waitLimit = endTimeout
		}
		c.conn.SetWriteDeadline(time.Now().Add(waitLimit))
		if waitLimit > endTimeout && s.stopping.Load() { // just now
			c.conn.SetWriteDeadline(time.Now().Add(endTimeout))
		}
		if _, err := c.conn.Write(packet); err != nil {
			s.remove(c)
		}
	})
}

// eachClient waits for all of them at the same time.
func (s *server) eachClient(do func(*client)) {
	var all sync.WaitGroup
	s.clientsLock.Lock()
	for c := range s.clients {
		all.Go(func() { do(c) })
	}
	s.clientsLock.Unlock()
	all.Wait()
}

func (s *server) remove(c *client) {
	s.clientsLock.Lock()
	delete(s.clients, c)
	s.clientsLock.Unlock()
	c.conn.Close()
}

// serve talks to a client for as long as it is there.
func (s *server) serve(conn *net.UnixConn) {
	c := &client{conn: conn}
	defer s.remove(c)
	packet := make([]byte, 1+maxData)
	conn.SetReadDeadline(time.Now().Add(answerTimeout))
	n, err := conn.Read(packet)
	if err != nil || n == 0 || packet[0] != attach {
		return
	}
	conn.SetReadDeadline(time.Time{})
	refuse := func(why string) { conn.Write(append([]byte{refused}, why...)) }
	c.endpoints = strings.Fields(string(packet[1:n]))
	for _, endpoint := range c.endpoints {
		if !slices.Contains(s.endpoints, endpoint) {
			refuse("has no " + endpoint)
			return
		}
	}
	s.clientsLock.Lock() // output comes after the answer, and what is said then is not missed
	_, err = conn.Write([]byte{attach})
	s.clients[c] = true
	s.clientsLock.Unlock()
	if err != nil {
		return
	}
	for {
		n, err := conn.Read(packet)
		if err != nil || n == 0 {
			return
		}
		switch data := packet[1:n]; packet[0] {
		case input:
			if err := s.write(c, data); err != nil {
				refuse(err.Error())
				return
			}
		case endOfInput:
			if string(data) == "close" {
				if err := s.closeInput(); err != nil {
					refuse(err.Error())
					return
				}
			}
			if _, err := conn.Write([]byte{endOfInput}); err != nil {
				return
			}
		case windowSize:
			if len(data) == 4 && s.terminal != nil {
				s.resize(binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:]))
			}
		}
	}
}

// write gives the app input, and waits until the app reads it.
func (s *server) write(c *client, data []byte) error {
	to := s.terminal
	if slices.Contains(c.endpoints, stdin) {
		s.inputLock.Lock()
		defer s.inputLock.Unlock()
		if to = s.stdin; to == nil {
			return errors.New("its standard input was closed")
		}
	}
	if to == nil {
		return errors.New("has no input")
	}
	_, err := to.Write(data)
	return err
}

// closeInput ends the app's standard input. Who opens it by its path later, as a program that is
// started after another one, finds it at its end.
func (s *server) closeInput() error {
	s.inputLock.Lock()
	defer s.inputLock.Unlock()
	if s.stdin == nil {
		return errors.New("its standard input was closed")
	}
	path := filepath.Join(s.dir, stage1.StdinPipe)
	if err := os.WriteFile(path+".end", nil, 0o644); err != nil {
		return err
	}
	if err := os.Rename(path+".end", path); err != nil {
		return err
	}
	s.store.forget(stdin)
	closing := s.stdin
	s.stdin = nil
	return closing.Close()
}
