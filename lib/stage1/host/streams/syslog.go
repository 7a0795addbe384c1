package streams

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// DevDir is a directory of the pod's root that has a directory for each app: the app's /dev, which
// belongs to the app. Syslog is the socket there that syslog(3) writes to. The pod's systemd makes
// it before the app starts. It is no mount, so an app with a syslog daemon of its own can put the
// daemon's in its place. Nothing of the pod's opens it by its path, which may lead anywhere then.
const (
	DevDir = stage1.DevDir
	Syslog = "log"
)

// MaxName is the longest name of an app that has Syslog and Journal: the paths of sockets are short
// (unix(7)).
const MaxName = 80

// syslogTimeout is how long it may take to pass on what an app that has ended has said.
const syslogTimeout = 5 * time.Second

// socket is one that an app writes to, and who wrote to it last.
type socket struct {
	fd   int // -1 for none
	from *sender
}

// drainSyslog passes on one message and then removes it from the socket, so that none is lost if
// this process is killed. It reports whether there may be more.
func (a *app) drainSyslog(s *scratch, to *sink) (more bool, err error) {
	control := make([]byte, unix.CmsgSpace(unix.SizeofUcred)) // no room for descriptors
	n, m, _, _, err := unix.Recvmsg(a.syslog.fd, s.buffer, control, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	switch err {
	case nil:
	case unix.EINTR:
		return true, nil
	case unix.EAGAIN:
		return false, nil
	default:
		return false, failed("syslog socket of "+a.name, err)
	}
	from := a.syslog.sender(control[:m])
	message := parseSyslog(s.buffer[:n])
	message.app, message.pid = a.name, a.pid
	if err := message.eachLine(from, func(r record) error { return to.write(r, from, !to.isInteractive) }); err != nil {
		return false, err
	}
	if err := to.flush(); err != nil {
		return false, err
	}
	return true, a.syslog.drop()
}

// eachLine calls f with a record for each line of the text, in the name of who has sent it.
func (r record) eachLine(from *sender, f func(record) error) error {
	if from != nil {
		r.pid = from.pid
	}
	for text := r.text; len(text) > 0; {
		line, used, brokenBy := cut(text, lineMax, true)
		if text = text[used:]; brokenBy == byEnd {
			brokenBy = ""
		}
		r.text, r.brokenBy = bytes.TrimRight(line, "\r"), brokenBy
		if len(r.text) == 0 {
			continue
		}
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

// sender is who has sent a message, by its control messages; nil if they don't say.
func (l *socket) sender(control []byte) *sender {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if process, err := unix.ParseUnixCredentials(&m); err == nil && process.Pid > 0 {
			if l.from == nil || l.from.process != *process {
				l.from = newSender(*process)
			}
			return l.from
		}
	}
	return nil
}

// drop removes the message that has been passed on.
func (l *socket) drop() error {
	if err := drop(l.fd); err != nil && err != unix.EAGAIN {
		return failed("receive", err)
	}
	return nil
}

// drop removes a message from a socket.
func drop(fd int) error {
	for {
		_, _, err := unix.Recvfrom(fd, nil, unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		return err
	}
}

// dropAll removes all messages that wait.
func dropAll(fd int) error {
	for {
		if err := drop(fd); err == unix.EAGAIN {
			return nil
		} else if err != nil {
			return failed("receive", err)
		}
	}
}

// awaitSyslog waits until what an app has said by syslog(3) has been passed on.
func awaitSyslog(name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return failed("socket", err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrUnix{Name: filepath.Join(Dir, name, Ended)}
	if len(to.Name) > 107 { // the app has none
		return nil
	}
	err = unix.Sendto(fd, []byte{'\n'}, 0, to)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return failed(to.Name, err)
	}
	awaitRead(fd, syslogTimeout)
	return nil
}

// parseSyslog makes a record of a message as syslog(3) writes it: "<PRIORITY>Mmm dd hh:mm:ss
// TAG[PID]: TEXT", of which all but the text may be missing, as journald reads it. The text may
// have several lines.
func parseSyslog(message []byte) record {
	r := record{priority: informational, facility: user}
	text := bytes.TrimRight(message, "\x00\n\r\t ")
	if number, n := syslogPriority(text); n > 0 {
		text = text[n:]
		if r.priority, r.facility = number&7, number>>3; r.facility == kernel {
			r.facility = user
		}
	}
	if hasTimestamp(text) {
		text = text[len(timestamp):]
	}
	word, rest, _ := bytes.Cut(bytes.TrimLeft(text, " "), []byte(" "))
	if tag, ok := tagOf(word); ok {
		r.tag, text = tag, rest
	}
	r.text = text
	return r
}

// syslogPriority reads <N>, and how many bytes that is; 0 for something else.
func syslogPriority(text []byte) (number, n int) {
	if len(text) == 0 || text[0] != '<' {
		return 0, 0
	}
	for i, c := range text[1:min(len(text), 5)] {
		switch {
		case c == '>' && i > 0 && number < 192: // of 24 facilities
			return number, i + 2
		case c < '0' || c > '9':
			return 0, 0
		}
		number = number*10 + int(c-'0')
	}
	return 0, 0
}

// timestamp is the form of one: "a" is a letter, "0" a digit or, as in " 7", a space.
const timestamp = "aaa 00 00:00:00 "

func hasTimestamp(text []byte) bool {
	if len(text) < len(timestamp) {
		return false
	}
	for i, c := range text[:len(timestamp)] {
		isDigit := '0' <= c && c <= '9'
		switch timestamp[i] {
		case 'a':
			if c |= 0x20; c < 'a' || c > 'z' {
				return false
			}
		case '0':
			if !isDigit && c != ' ' {
				return false
			}
		default:
			if c != timestamp[i] {
				return false
			}
		}
	}
	return true
}

// tagOf reads "TAG:" or "TAG[PID]:".
func tagOf(word []byte) (tag string, ok bool) {
	word, ok = bytes.CutSuffix(word, []byte(":"))
	if open := bytes.IndexByte(word, '['); open > 0 && bytes.HasSuffix(word, []byte("]")) {
		word = word[:open]
	}
	tag = string(word)
	isOdd := strings.ContainsFunc(tag, func(c rune) bool { return c <= ' ' || c == 0x7f || c == 0xfffd })
	if !ok || tag == "" || len(tag) > 64 || isOdd {
		return "", false
	}
	return tag, true
}
