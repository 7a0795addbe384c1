package launcher

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// escape is Ctrl-], which typed three times within a second kills the pod, as in systemd-nspawn.
const escape = 0x1d

// drainTimeout is how long what the app has printed last may take to be read.
const drainTimeout = time.Second

// terminal is the pod's: the user's own, or where there is none the user's standard input and
// output.
type terminal struct {
	fd     int // of the pseudo terminal's master
	master *os.File
	stdin  *os.File    // what the app reads if that is no terminal
	feed   *os.File    // the other end of that
	state  *term.State // the user's terminal as it was; nil for none
	done   chan struct{}
}

// openTerminal takes the master of a pseudo terminal; nil for -1.
func openTerminal(p *plan.Plan, master int) (*terminal, error) {
	if master < 0 {
		return nil, nil
	}
	unix.SetNonblock(master, true) // so that a read of it ends with the file
	t := &terminal{fd: master, master: os.NewFile(uintptr(master), "terminal"), done: make(chan struct{})}
	if p.Stdin {
		var err error
		if t.stdin, t.feed, err = os.Pipe(); err != nil {
			return nil, err
		}
		return t, t.stdin.Chown(int(p.Users), int(p.Users)) // the pod's root, who gives it to the app's user
	}
	return t, nil
}

// begin carries what is typed and printed, from the start of the pod on.
func (t *terminal) begin(init *exec.Cmd) (err error) {
	if t.stdin != nil {
		t.stdin.Close()
		go func() {
			io.Copy(t.feed, os.Stdin)
			t.feed.Close()
		}()
	} else {
		if t.state, err = term.MakeRaw(0); err != nil {
			return err
		}
		t.follow()
		go t.typed(init)
	}
	go func() {
		io.Copy(os.Stdout, t.master)
		close(t.done)
	}()
	return nil
}

// follow gives the pod's terminal the size of the user's, now and when that changes.
func (t *terminal) follow() {
	resize := func() {
		if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
			unix.IoctlSetWinsize(t.fd, unix.TIOCSWINSZ, size)
		}
	}
	resize()
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, unix.SIGWINCH)
	go func() {
		for range changes {
			resize()
		}
	}()
}

// typed carries what is typed.
func (t *terminal) typed(init *exec.Cmd) {
	text := make([]byte, 4096)
	escapes, first := 0, time.Time{}
	for {
		n, err := os.Stdin.Read(text)
		if err != nil || n == 0 {
			return
		}
		for _, b := range text[:n] {
			if b != escape {
				escapes = 0
				continue
			}
			if escapes == 0 || time.Since(first) > time.Second {
				escapes, first = 0, time.Now()
			}
			if escapes++; escapes == 3 {
				init.Process.Kill()
			}
		}
		t.master.Write(text[:n])
	}
}

// end prints what is left, and gives the user the terminal back as it was.
func (t *terminal) end() {
	select {
	case <-t.done:
	case <-time.After(drainTimeout):
	}
	if t.state != nil {
		term.Restore(0, t.state)
	}
}
