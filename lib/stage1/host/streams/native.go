package streams

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"
)

// Journal is a socket in an app's directory below Dir, which the app sees as that of a journal: it
// takes records in the journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), from
// sd_journal_send(3). They are passed on to the pod's journal with all their fields, and their
// texts to where the app's lines go.
const Journal = "journal"

// maxNative is the longest message that is read. A longer one, which is in a file, is left to the
// pod's journald.
const maxNative = 1 << 20

// drainJournal passes on one message, as drainSyslog does.
func (a *app) drainJournal(s *scratch, to *sink) (more bool, err error) {
	control := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4)) // with room for one descriptor
	const flags = unix.MSG_PEEK | unix.MSG_DONTWAIT | unix.MSG_CMSG_CLOEXEC | unix.MSG_TRUNC
	buffer := s.buffer
	n, m, _, _, err := unix.Recvmsg(a.journal.fd, buffer, control, flags)
	switch err {
	case nil:
	case unix.EINTR:
		return true, nil
	case unix.EAGAIN:
		return false, nil
	default:
		return false, failed("journal socket of "+a.name, err)
	}
	from, file := a.journal.sender(control[:m]), descriptor(control[:m])
	if file >= 0 {
		defer unix.Close(file)
	}
	if n > len(buffer) && n <= maxNative {
		buffer = make([]byte, n)
		if n, _, err = unix.Recvfrom(a.journal.fd, buffer, unix.MSG_PEEK|unix.MSG_DONTWAIT); err != nil {
			return true, nil
		}
	}
	text := buffer[:min(n, len(buffer))]
	if file >= 0 && n == 0 {
		if text, err = readSealed(file); err != nil {
			return false, err
		}
		if text == nil {
			to.sendFile(file, from.inPod())
		}
	}
	for len(text) > 0 {
		var e entry
		e, text = a.nextEntry(text, to.pod)
		if err := a.passEntry(e, from, to); err != nil {
			return false, err
		}
	}
	if err := to.flush(); err != nil {
		return false, err
	}
	return true, a.journal.drop()
}

// entry is a record as an app has sent it: its fields with those that say whose it is, and what of
// them is for people.
type entry struct {
	fields []byte
	record
}

// nextEntry reads the first record of several, which empty lines part, as journald does. What is
// malformed ends it.
func (a *app) nextEntry(text []byte, pod string) (e entry, rest []byte) {
	e.record = record{app: a.name, pid: a.pid, priority: informational, facility: daemon}
	for len(text) > 0 {
		end := bytes.IndexByte(text, '\n')
		if end < 0 {
			text = nil
			break
		}
		name, value, isText := bytes.Cut(text[:end], []byte("="))
		size := end + 1
		if !isText && end > 0 {
			if len(text) < size+8 {
				text = nil
				break
			}
			length := binary.LittleEndian.Uint64(text[size:])
			if length > uint64(len(text)) || uint64(len(text)) < uint64(size)+8+length+1 {
				text = nil
				break
			}
			value = text[size+8:][:length]
			size += 8 + int(length) + 1
		}
		field := text[:size]
		text = text[size:]
		if end == 0 {
			break
		}
		e.take(string(name), value, field)
	}
	if len(e.fields) > 0 {
		e.fields = append(e.fields, "RKT_POD="+pod+"\nRKT_APP="+a.name+"\n"...)
	}
	return e, text
}

// take adds a field, unless it would say for another app what only rkt says.
func (e *entry) take(name string, value, field []byte) {
	switch name {
	case "RKT_POD", "RKT_APP":
		return
	case "MESSAGE":
		e.text = value
	case "PRIORITY":
		if n, err := strconv.ParseUint(string(value), 10, 3); err == nil {
			e.priority = int(n)
		}
	case "SYSLOG_IDENTIFIER":
		if tag, ok := tagOf(append(bytes.Clone(value), ':')); ok && tag != e.app {
			e.tag = tag
		}
	}
	e.fields = append(e.fields, field...)
}

func (a *app) passEntry(e entry, from *sender, to *sink) error {
	if len(e.fields) == 0 {
		return nil
	}
	to.message = append(to.message[:0], e.fields...)
	if err := to.send(to.journal, from.inPod(), nil); err != nil {
		return err
	}
	if to.isInteractive {
		return nil
	}
	return e.eachLine(from, func(r record) error { return to.tell(r, from) })
}

// descriptor is one that came with a message, or -1.
func descriptor(control []byte) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return -1
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			return fds[0]
		}
	}
	return -1
}

// readSealed reads a file in memory that nobody can change any more; of anything else it reads
// nothing, since that could make it wait. The result is nil for what is too long.
func readSealed(file int) ([]byte, error) {
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_WRITE
	var st unix.Stat_t
	if got, err := unix.FcntlInt(uintptr(file), unix.F_GET_SEALS, 0); err != nil || got&seals != seals {
		return []byte{}, nil
	}
	if err := unix.Fstat(file, &st); err != nil {
		return nil, failed("file of a record", err)
	}
	if st.Size > maxNative {
		return nil, nil
	}
	text := make([]byte, st.Size)
	for n := 0; n < len(text); {
		more, err := unix.Pread(file, text[n:], int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil || more == 0 {
			return text[:n], nil
		}
		n += more
	}
	return text, nil
}

// sendFile passes a record in a file on to the pod's journal, in somebody's name; nil is this
// process.
func (s *sink) sendFile(file int, from []byte) error {
	for _, name := range [][]byte{from, nil} {
		if s.journal < 0 {
			break
		}
		err := unix.Sendmsg(s.journal, nil, append(bytes.Clone(name), unix.UnixRights(file)...), nil, 0)
		if err == nil {
			return nil
		}
		if err != unix.ESRCH && err != unix.EPERM {
			return failed("journal", err)
		}
	}
	return nil
}

// sendLarge is send for a message that no datagram can hold.
func (s *sink) sendLarge(from []byte) error {
	file, err := unix.MemfdCreate("record", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return failed("memfd", err)
	}
	defer unix.Close(file)
	for rest := s.message; len(rest) > 0; {
		n, err := unix.Write(file, rest)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return failed("memfd", err)
		}
		rest = rest[n:]
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(file), unix.F_ADD_SEALS, seals); err != nil {
		return failed("memfd", err)
	}
	return s.sendFile(file, from)
}
