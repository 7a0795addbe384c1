package streams

import (
	"bytes"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// lineMax is the journal's own limit, in bytes (journald.conf(5), "LineMax="). A longer line
// becomes several records.
const lineMax = 48 << 10

// chunk is how much is looked at at once; a longest line fits into it.
const chunk = 64 << 10

// What ended a line that no newline did, in systemd's words (systemd.journal-fields(7),
// "_LINE_BREAK=").
const (
	byNUL   = "nul"
	byLimit = "line-max"
	byEnd   = "eof"
)

// pipe is a named pipe whose lines are read. A line stays in it until it is complete and was passed
// on, so that a reader can be killed at any time, and another one goes on where it was.
type pipe struct {
	fd    int
	limit int // of a line, in bytes; whatever the sizes of the writes, so much fits into the pipe
	*scratch
}

// scratch is what all pipes of a process use in turn.
type scratch struct {
	peek   [2]int // a pipe into which what waits is duplicated
	buffer []byte
}

func newScratch() (*scratch, error) {
	s := &scratch{buffer: make([]byte, chunk)}
	if err := unix.Pipe2(s.peek[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, failed("pipe", err)
	}
	unix.FcntlInt(uintptr(s.peek[1]), unix.F_SETPIPE_SZ, 2*chunk) // else less is looked at at once
	return s, nil
}

// newPipe takes a descriptor, which it makes its own.
func newPipe(fd int, s *scratch) (*pipe, error) {
	size, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return nil, failed("size of a pipe", err)
	}
	return &pipe{fd: fd, limit: min(lineMax, size/2), scratch: s}, nil
}

// openPipe opens the pipe at a path; nil if there is none.
func openPipe(path string, s *scratch) (*pipe, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, failed(path, err)
	}
	return newPipe(fd, s)
}

// drain passes on lines that wait, without the newlines, and removes them from the pipe. It leaves
// an incomplete one there, unless the pipe is full of it or nobody will write any more. It takes no
// more than a chunk, and reports whether there may be more.
func (p *pipe) drain(last bool, pass func(line []byte, brokenBy string) error, done func() error) (more bool,
	err error) {
	waiting, err := p.look()
	if err != nil {
		return false, err
	}
	used := 0
	for used < len(waiting) {
		line, n, brokenBy := cut(waiting[used:], p.limit, last)
		if n == 0 {
			break
		}
		if err := pass(line, brokenBy); err != nil {
			return false, err
		}
		used += n
	}
	if used == 0 {
		return false, nil
	}
	if err := done(); err != nil {
		return false, err
	}
	return true, readFull(p.fd, p.buffer[:used])
}

// cut returns the first line, and how many bytes of the text it is with what ends it: 0 if it is
// incomplete.
func cut(text []byte, limit int, last bool) (line []byte, n int, brokenBy string) {
	within := text[:min(len(text), limit+1)]
	end := bytes.IndexByte(within, '\n')
	if end >= 0 {
		within = within[:end]
	}
	if nul := bytes.IndexByte(within, 0); nul >= 0 {
		return text[:nul], nul + 1, byNUL
	}
	switch {
	case end >= 0:
		return text[:end], end + 1, ""
	case len(text) >= limit:
		return text[:limit], limit, byLimit
	case last:
		return text, len(text), byEnd
	}
	return nil, 0, ""
}

// look returns what waits, and leaves it in the pipe. The result is valid until the next call.
func (p *pipe) look() ([]byte, error) {
	for {
		long, err := unix.Tee(p.fd, p.peek[1], len(p.buffer), unix.SPLICE_F_NONBLOCK)
		n := int(int32(long)) // of 32-bit machines the package joins two registers, of which one is the answer
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN || err == nil && n == 0:
			return nil, nil
		case err != nil:
			return nil, failed("tee", err)
		}
		return p.buffer[:n], readFull(p.peek[0], p.buffer[:n])
	}
}

// readFull reads what is known to wait in a pipe.
func readFull(fd int, to []byte) error {
	for len(to) > 0 {
		n, err := unix.Read(fd, to)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN || err == nil && n == 0 { // the app has read it itself
			return nil
		}
		if err != nil {
			return failed("read of a pipe", err)
		}
		to = to[n:]
	}
	return nil
}

// failed is the error of a system call.
func failed(what string, err error) error {
	return errors.New(what + ": " + err.Error())
}
