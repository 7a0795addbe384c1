package enter

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/openat"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// streams are standard input, output and error of a command. It never gets the caller's terminal,
// into which it could type what the caller's shell would execute (TIOCSTI, and CVE-2016-7545 of
// SELinux's sandbox): it gets one of the pod's, or a pipe.
type streams struct {
	caller [3]*os.File
	theirs [3]*os.File
	master *os.File // of the command's terminal; nil if it has none

	passed  []*os.File // closed once the command has them
	outputs sync.WaitGroup
	copies  []func()
	restore func()
}

// newStreams makes them, for a command that runs as uid.
func newStreams(caller [3]*os.File, leader int, uid uint32) (*streams, error) {
	s := &streams{caller: caller, theirs: caller, restore: func() {}}
	var terminal [3]bool
	for i, f := range caller {
		terminal[i] = term.IsTerminal(int(f.Fd()))
	}
	if terminal[0] {
		slave, err := s.open(leader, uid)
		if err != nil {
			return nil, fmt.Errorf("terminal: %w", err)
		}
		s.theirs[0] = slave
		s.passed = append(s.passed, slave)
		output := caller[0]
		for i := 2; i > 0; i-- {
			if terminal[i] {
				s.theirs[i], output = slave, caller[i]
			}
		}
		s.copies = append(s.copies, func() { go io.Copy(s.master, caller[0]) }, s.output(output, s.master))
		return s, nil
	}
	for i := 1; i < 3; i++ {
		if !terminal[i] {
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		s.theirs[i] = w
		s.passed = append(s.passed, w)
		s.copies = append(s.copies, s.output(caller[i], r))
	}
	return s, nil
}

// output copies until the last who could write has closed its end.
func (s *streams) output(to, from *os.File) func() {
	return func() {
		s.outputs.Add(1)
		go func() {
			defer s.outputs.Done()
			io.Copy(to, from)
		}()
	}
}

// open makes a terminal in the pod, by the pod's own ptmx, which is looked up without following
// links.
func (s *streams) open(leader int, uid uint32) (slave *os.File, err error) {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", leader), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	fd, err := openat.FD(root, "dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, openat.NoLinks)
	if err != nil {
		return nil, fmt.Errorf("/dev/pts/ptmx: %w", err)
	}
	s.master = os.NewFile(uintptr(fd), "ptmx")
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(5, 2) {
		return nil, errors.New("/dev/pts/ptmx: is not what it should be")
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock: %w", err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER,
		unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, fmt.Errorf("open: %w", errno)
	}
	slave = os.NewFile(peer, "tty")
	return slave, slave.Chown(int(uid), -1)
}

// start begins to copy, when the command has its ends.
func (s *streams) start() {
	closeAll(s.passed)
	s.passed = nil
	if s.master != nil {
		s.resize()
		if state, err := term.MakeRaw(int(s.caller[0].Fd())); err == nil {
			s.restore = func() { term.Restore(int(s.caller[0].Fd()), state) }
		}
	}
	for _, start := range s.copies {
		start()
	}
}

// resize gives the command's terminal the size of the caller's.
func (s *streams) resize() {
	if s.master == nil {
		return
	}
	if size, err := unix.IoctlGetWinsize(int(s.caller[0].Fd()), unix.TIOCGWINSZ); err == nil {
		unix.IoctlSetWinsize(int(s.master.Fd()), unix.TIOCSWINSZ, size)
	}
}

// drain waits until all that the command has written is copied, but not for what it has left
// in the background.
func (s *streams) drain() {
	done := make(chan bool)
	go func() {
		s.outputs.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(200 * time.Millisecond):
	}
}

// close gives the terminal back as it was.
func (s *streams) close() {
	s.restore()
	closeAll(s.passed)
	if s.master != nil {
		s.master.Close()
	}
}
