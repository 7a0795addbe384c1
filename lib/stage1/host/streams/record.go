package streams

import (
	"bytes"
	"strconv"
)

// Priorities of syslog(3).
const (
	emergency     = 0
	alert         = 1
	failure       = 3
	informational = 6
)

// Facilities of syslog(3).
const (
	kernel = 0
	user   = 1
	daemon = 3
)

// record is a line of an app's.
type record struct {
	app      string
	tag      string // the program's name for itself, if it has said it by syslog(3)
	pid      int    // of the app
	priority int
	facility int
	text     []byte
	brokenBy string
}

// parse makes a record of a line as an app has written it; ok is false for a line without text,
// which the journal has no record for. A prefix "<3>" is its priority (sd-daemon(3)), and a
// carriage return in front of the newline is not part of it.
func parse(line []byte, brokenBy string) (r record, ok bool) {
	r = record{priority: informational, facility: daemon, brokenBy: brokenBy}
	if len(line) > 2 && line[0] == '<' && '0' <= line[1] && line[1] <= '7' && line[2] == '>' {
		r.priority, line = int(line[1]-'0'), line[3:]
	}
	r.text = bytes.TrimRight(line, "\r")
	return r, len(r.text) > 0
}

// native appends the record in the journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
// The text has no newline in it.
func (r record) native(to []byte, pod string) []byte {
	name := r.app
	if r.tag != "" {
		name = r.tag
	}
	to = append(append(to, "SYSLOG_IDENTIFIER="...), name...)
	to = strconv.AppendInt(append(to, "\nSYSLOG_FACILITY="...), int64(r.facility), 10)
	to = strconv.AppendInt(append(to, "\nSYSLOG_PID="...), int64(r.pid), 10)
	to = append(to, "\nPRIORITY="...)
	to = strconv.AppendInt(to, int64(r.priority), 10)
	to = append(append(to, "\nRKT_POD="...), pod...)
	to = append(append(to, "\nRKT_APP="...), r.app...)
	if r.brokenBy != "" {
		to = append(append(to, "\nLINE_BREAK="...), r.brokenBy...)
	}
	to = append(append(to, "\nMESSAGE="...), r.text...)
	return append(to, '\n')
}

// onHost returns the record for people and programs of the host, which could take a tag "sshd" or a
// facility for the host's own: it is under the app's name, in one facility. One of priority 0 would
// be broadcast to all who are logged in.
func (r record) onHost() record {
	r.priority, r.facility = max(alert, r.priority), daemon
	if r.tag != "" {
		r.text, r.tag = append([]byte(r.tag+": "), r.text...), ""
	}
	return r
}

// shown appends the record as a line for people, as rkt printed it.
func (r record) shown(to []byte) []byte {
	to = append(append(to, r.app...), '[')
	to = append(strconv.AppendInt(to, int64(r.pid), 10), "]: "...)
	return append(append(to, r.text...), '\n')
}
