package member

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/rkt-toolkit/rkt/lib/host/printable"
	"golang.org/x/sys/unix"
)

const (
	waitLimit = 10 * time.Second // for the request, and for a program that was asked to end
	slow      = 30 * time.Second // for a client that does not read
	failed    = 254              // the exit status when no program ran, as for every error of the toolkit
)

// Service is one instance of rkt-fetch@.service.
type Service struct {
	Look func(program string) (path string, err error) // finds a program of the toolkit
	Log  func(format string, args ...any)              // a line for the host's journal
}

// Serve answers the request that comes on a connection. It returns when the program that did it has
// exited, and returns an error if none ran; the client has been told.
func (s Service) Serve(ctx context.Context, fd int) error {
	defer unix.Shutdown(fd, unix.SHUT_RDWR)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answer := &answer{fd: fd, lost: cancel}
	cmd, closeFiles, err := s.prepare(ctx, fd)
	defer closeFiles()
	if err != nil {
		fmt.Fprintf(answer.to(toStderr), "rkt-fetch: %s\n", printable.Line(err.Error()))
		answer.exit(failed)
		return err
	}
	cmd.Stdout, cmd.Stderr = answer.to(toStdout), answer.to(toStderr)
	go func() { // nothing follows a request, so this is the end of the connection
		receive(fd, make([]byte, 1))
		cancel()
	}()
	err = cmd.Run()
	exit := failed
	if cmd.ProcessState != nil && cmd.ProcessState.Exited() {
		exit, err = cmd.ProcessState.ExitCode(), nil
	}
	if err != nil {
		fmt.Fprintf(answer.to(toStderr), "rkt-fetch: %s\n", printable.Line(err.Error()))
	}
	answer.exit(exit)
	return err
}

// prepare reads the request, and returns the program that is to do it.
func (s Service) prepare(ctx context.Context, fd int) (cmd *exec.Cmd, closeFiles func(), err error) {
	var files []*os.File
	closeFiles = func() {
		for _, f := range files {
			f.Close()
		}
	}
	timeout := func(option int, d time.Duration) error {
		tv := unix.NsecToTimeval(d.Nanoseconds())
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &tv)
	}
	if err := errors.Join(timeout(unix.SO_RCVTIMEO, waitLimit), timeout(unix.SO_SNDTIMEO, slow)); err != nil {
		return nil, closeFiles, fmt.Errorf("no socket: %w", err)
	}
	peer, err := peerOf(fd)
	if err != nil {
		return nil, closeFiles, err
	}
	packet, files, err := readRequest(fd)
	if err != nil {
		return nil, closeFiles, err
	}
	r, err := parse(packet, len(files))
	if err != nil {
		return nil, closeFiles, err
	}
	for _, f := range files {
		if err := readable(f); err != nil {
			return nil, closeFiles, err
		}
	}
	name, args := r.program()
	s.Log("user %d: %s %q", peer.Uid, name, args)
	path, err := s.Look(name)
	if err != nil {
		return nil, closeFiles, err
	}
	cmd = exec.CommandContext(ctx, path, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = waitLimit
	if r.File {
		cmd.Stdin = files[0]
	}
	if r.Signature != nil {
		signature, err := inMemory(r.Signature)
		if err != nil {
			return nil, closeFiles, err
		}
		files = append(files, signature)
		cmd.ExtraFiles = []*os.File{signature}
	}
	return cmd, closeFiles, timeout(unix.SO_RCVTIMEO, 0)
}

// peerOf returns who is at the other end: root, or a member of the group of the socket's file,
// which the socket's mode lets in, too.
func peerOf(fd int) (*unix.Ucred, error) {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, fmt.Errorf("who asks: %w", err)
	}
	if peer.Uid == 0 {
		return peer, nil
	}
	groups, err := peerGroups(fd)
	if err != nil {
		return nil, fmt.Errorf("who asks: %w", err)
	}
	var st unix.Stat_t
	local, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("who asks: %w", err)
	}
	file, ok := local.(*unix.SockaddrUnix)
	if !ok || file.Name == "" {
		return nil, errors.New("who asks: the socket has no file")
	}
	if err := unix.Stat(file.Name, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name, err)
	}
	if !slices.Contains(append(groups, peer.Gid), st.Gid) {
		return nil, errors.New("only root and members of group rkt may do this")
	}
	return peer, nil
}

// peerGroups returns the supplementary groups that the other end had when it connected
// (SO_PEERGROUPS, Linux 4.13).
func peerGroups(fd int) ([]uint32, error) {
	const most = 1 << 16 // NGROUPS_MAX
	buffer := make([]byte, 4*most)
	size := uint32(len(buffer))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&buffer[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil, errno
	}
	var groups []uint32
	for b := buffer[:size]; len(b) >= 4; b = b[4:] {
		groups = append(groups, binary.NativeEndian.Uint32(b))
	}
	return groups, nil
}

// readRequest reads the packet of a request and the descriptors with it, which are the caller's to
// close, also after an error.
func readRequest(fd int) (packet []byte, files []*os.File, err error) {
	packet = make([]byte, maxRequest)
	rights := make([]byte, unix.CmsgSpace(4))
	n, rightsLen, flags, _, err := unix.Recvmsg(fd, packet, rights, unix.MSG_CMSG_CLOEXEC)
	for err == unix.EINTR {
		n, rightsLen, flags, _, err = unix.Recvmsg(fd, packet, rights, unix.MSG_CMSG_CLOEXEC)
	}
	if err == unix.EAGAIN {
		return nil, nil, fmt.Errorf("no request came in %s", waitLimit)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("request: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:rightsLen])
	if err != nil {
		return nil, nil, fmt.Errorf("request: %w", err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // another kind of message
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	switch {
	case n == 0:
		err = errors.New("no request came")
	case flags&unix.MSG_TRUNC != 0:
		err = fmt.Errorf("a request of more than %d bytes", maxRequest)
	case flags&unix.MSG_CTRUNC != 0:
		err = errors.New("a request with too many descriptors")
	}
	return packet[:n], files, err
}

// readable returns an error unless the client has opened a file for reading: one opened with O_PATH
// it may not be able to read.
func readable(f *os.File) error {
	var st unix.Stat_t
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if err != nil {
		return fmt.Errorf("a descriptor of the request: %w", err)
	}
	kind := st.Mode & unix.S_IFMT
	if flags&unix.O_PATH != 0 || flags&unix.O_ACCMODE == unix.O_WRONLY || kind != unix.S_IFREG && kind != unix.S_IFIFO {
		return errors.New("not a file or pipe that is open for reading")
	}
	return nil
}

// inMemory returns a file in memory that holds a text.
func inMemory(text []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("signature", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "signature")
	if _, err := f.Write(text); err != nil {
		f.Close()
		return nil, fmt.Errorf("memfd: %w", err)
	}
	return f, nil
}

// answer sends packets. A client that is gone or does not read is lost.
type answer struct {
	fd   int
	lost func()
	mu   sync.Mutex
}

func (a *answer) send(kind byte, text []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	packet := append([]byte{kind}, text...)
	for {
		err := unix.Sendto(a.fd, packet, unix.MSG_NOSIGNAL, nil)
		if err == nil || err != unix.EINTR {
			if err != nil {
				a.lost()
			}
			return err
		}
	}
}

func (a *answer) exit(n int) { a.send(status, fmt.Appendf(nil, "%d", n)) }

func (a *answer) to(kind byte) io.Writer { return stream{a, kind} }

type stream struct {
	answer *answer
	kind   byte
}

func (s stream) Write(text []byte) (int, error) {
	written := 0
	for part := range slices.Chunk(text, maxAnswer) {
		if err := s.answer.send(s.kind, part); err != nil {
			return written, err
		}
		written += len(part)
	}
	return written, nil
}
