package streams

import (
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Paths in the pod's root. Dir has a directory for each app.
const (
	Dir = "/run/rkt/streams"
	// HostJournal is the journal's socket of the host. No app can see it. It is not below /run:
	// systemd-nspawn would make /run/rkt for it, and in a pod with users of its own nobody could
	// write there.
	HostJournal = "/rkt/host-journal"
	// OutputFile has one of the words below: where lines go besides the pod's own journal. A second
	// word, Interactive, says that somebody works at that console, who is not to read what apps say
	// by syslog(3).
	OutputFile = "/rkt/output"
)

// Where lines go besides the pod's own journal.
const (
	ToJournal  = "journal"  // to the host's
	ToTerminal = "terminal" // to the console, which is a terminal of the user's
	ToPlain    = "plain"    // to the console, which is a file or a pipe of the user's

	Interactive = "interactive"
	// Direct is for a pod that has no journal of its own. Its console is standard output.
	Direct = "direct"
)

const (
	podJournal = "/run/systemd/journal/socket"
	console    = "/dev/console"
)

// sink is where records go.
type sink struct {
	pod           string // its UUID
	journal, host int    // connected sockets; -1 for none
	console       int    // -1 for none
	isInteractive bool
	text          []byte // for the console, not written yet
	message       []byte
}

// openSink opens what OutputFile says. If the host's journal can't be reached, its lines are
// printed.
func openSink(pod string) (*sink, error) {
	s := &sink{pod: pod, host: -1, console: -1}
	var err error
	output, err := os.ReadFile(OutputFile)
	if err != nil {
		return nil, err
	}
	words := append(strings.Fields(string(output)), "")
	word, isDirect := words[0], slices.Contains(words, Direct)
	s.isInteractive = slices.Contains(words, Interactive)
	if isDirect {
		s.journal = -1
	} else if s.journal, err = connect(podJournal); err != nil {
		return nil, err
	}
	if word == ToJournal {
		if s.host, err = connect(HostJournal); err == nil {
			return s, nil
		}
		s.host = -1
	}
	if isDirect {
		s.console = unix.Stdout
		return s, nil
	}
	s.console, err = openConsole(word == ToPlain)
	return s, err
}

func openConsole(isPlain bool) (int, error) {
	fd, err := unix.Open(console, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, failed(console, err)
	}
	if isPlain {
		return fd, plain(fd)
	}
	return fd, nil
}

// plain has a terminal end lines without a carriage return.
func plain(fd int) error {
	settings, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		settings.Oflag &^= unix.ONLCR
		err = unix.IoctlSetTermios(fd, unix.TCSETS, settings)
	}
	if err != nil {
		return failed("terminal", err)
	}
	return nil
}

func connect(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, failed("socket", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, failed(path, err)
	}
	return fd, nil
}

// write passes a record on, in the name of a process of the app's, if it has one. isOutput is false
// for what is of interest in the pod's journal only.
func (s *sink) write(r record, from *sender, isOutput bool) error {
	s.message = r.native(s.message[:0], s.pod)
	if err := s.send(s.journal, from.inPod(), nil); err != nil {
		return err
	}
	if !isOutput {
		return nil
	}
	return s.tell(r, from)
}

// tell passes a record on to where the app's lines go besides the pod's journal.
func (s *sink) tell(r record, from *sender) error {
	if s.host >= 0 {
		s.message = r.onHost().native(s.message[:0], s.pod)
		if from != nil && time.Since(from.known) > remembered {
			s.introduce(from)
		}
		return s.send(s.host, from.onHost(), podInit, nil)
	}
	s.text = r.onHost().shown(s.text)
	return nil
}

// sender is a process in whose name records are sent, as control messages (unix(7)); nil is this
// one in the pod, and podInit on the host.
type sender struct {
	process   unix.Ucred
	pid       int
	pod, host []byte
	known     time.Time // when the host's journal last looked at it
}

// remembered is how long the host's journal knows of a process that has ended what it saw when it
// last had a message of the process: half of journald's MAX_USEC.
const remembered = 5 * time.Second

// newSender takes the process as the pod's journal is to see it. The host's sees it as root's: with
// an ID of the pod, the record would be in the file of a user of the host.
func newSender(process unix.Ucred) *sender {
	return &sender{process: process, pid: int(process.Pid), pod: unix.UnixCredentials(&process),
		host: unix.UnixCredentials(&unix.Ucred{Pid: process.Pid})}
}

// podInit is the pod's PID 1, which outlives all apps, and is in the same unit of the host.
var podInit = unix.UnixCredentials(&unix.Ucred{Pid: 1})

func (s *sender) inPod() []byte {
	if s == nil {
		return nil
	}
	return s.pod
}

func (s *sender) onHost() []byte {
	if s == nil {
		return podInit
	}
	return s.host
}

// send sends the message in the name of the first of these senders that is there, as control
// messages; nil is this process. It waits for a journal that is behind.
func (s *sink) send(to int, senders ...[]byte) error {
	for to >= 0 {
		err := unix.Sendmsg(to, s.message, senders[0], nil, 0)
		switch {
		case err == unix.EINTR:
		case len(senders) > 1 && (err == unix.ESRCH || err == unix.EPERM):
			senders = senders[1:]
		case err == unix.EMSGSIZE && to == s.journal:
			return s.sendLarge(senders[0])
		case err != nil:
			return failed("journal", err)
		default:
			return nil
		}
	}
	return nil
}

// introduce has the host's journal look at the process, by a message without fields, of which it
// makes no record. It remembers what it has seen, the unit above all, when the process has ended.
// It has looked when it reads a second one. Of a process that may have ended too early PID 1 is the
// sender.
func (s *sink) introduce(from *sender) {
	from.known = time.Now()
	for _, credentials := range [][]byte{from.host, podInit} {
		if err := s.greet(credentials); err != nil {
			from.host = podInit
			return
		}
	}
	if !s.settle() || hasEnded(from.pid) {
		from.host = podInit
	}
}

// greet sends the host's journal a message without fields.
func (s *sink) greet(credentials []byte) error {
	for {
		if err := unix.Sendmsg(s.host, []byte{'\n'}, credentials, nil, 0); err != unix.EINTR {
			return err
		}
	}
}

// settle waits until the host's journal has read what was sent, a second at most. It reports
// whether the journal has.
func (s *sink) settle() bool { return awaitRead(s.host, time.Second) }

// awaitRead waits until what was sent by a socket has been read, for as long as waitLimit. It
// reports whether it has been.
func awaitRead(fd int, waitLimit time.Duration) bool {
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
		if waiting, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err == nil && waiting == 0 {
			return true
		} else if err != nil {
			return false
		}
	}
	return false
}

// flush writes to the console what is to be there, and waits for the host's journal: what has left
// an app's pipe is where it belongs, whoever ends then.
func (s *sink) flush() error {
	if s.host >= 0 {
		s.settle()
	}
	text := s.text
	for len(text) > 0 && s.console >= 0 {
		n, err := unix.Write(s.console, text)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			s.console = -1 // nobody reads it any more; the pod's journal has it
			break
		}
		text = text[n:]
	}
	s.text = s.text[:0]
	return nil
}
