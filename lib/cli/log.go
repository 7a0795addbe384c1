package cli

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/printable"
	"golang.org/x/sys/unix"
)

// Log is where the program tells, with --debug, what it decides and does: a line each on standard
// error. Where that is the journal's stream, the line goes there with fields by which journalctl
// finds it: RKT_POD, RKT_APP, RKT_IMAGE for the attributes pod, app and image. Packages that decide
// something take this value; they print nothing themselves.
func (p *Process) Log() *slog.Logger { return slog.New(&logHandler{p: p}) }

// Debugf is Log().Debug of a formatted line.
func (p *Process) Debugf(format string, args ...any) {
	if p.debug {
		p.Log().Debug(fmt.Sprintf(format, args...))
	}
}

type logHandler struct {
	p     *Process
	attrs []slog.Attr
}

func (h *logHandler) Enabled(context.Context, slog.Level) bool { return h.p.debug }

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.p, append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

func (h *logHandler) WithGroup(string) slog.Handler { return h } // nobody asks for one

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	attrs := h.attrs[:len(h.attrs):len(h.attrs)]
	r.Attrs(func(a slog.Attr) bool {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
		return true
	})
	line := r.Message
	for _, a := range attrs {
		line += " " + a.Key + "=" + quoted(a.Value.String())
	}
	line = printable.Line(line)
	if h.p.toJournal() && sendToJournal(h.p.Name, line, attrs) == nil {
		return nil
	}
	h.p.Say("%s", line)
	return nil
}

// quoted is a value that stands alone in a line.
func quoted(s string) string {
	if s == "" || strings.ContainsAny(s, " \"=\n\t") {
		return fmt.Sprintf("%q", s)
	}
	return s
}

// toJournal reports whether standard error is the journal's stream ($JOURNAL_STREAM,
// systemd.exec(5)).
func (p *Process) toJournal() bool {
	var st unix.Stat_t
	return unix.Fstat(2, &st) == nil && p.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// sendToJournal is sd_journal_send(3). go-systemd's package for it links net, which is a third of a
// small program.
func sendToJournal(program, line string, attrs []slog.Attr) error {
	var b strings.Builder
	field := func(name, value string) { // systemd.io/JOURNAL_NATIVE_PROTOCOL, the form for any bytes
		b.WriteString(name + "\n")
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
		b.WriteString(value + "\n")
	}
	field("MESSAGE", line)
	field("PRIORITY", "7")
	field("SYSLOG_IDENTIFIER", program)
	for _, a := range attrs {
		switch a.Key {
		case "pod", "app", "image":
			field("RKT_"+strings.ToUpper(a.Key), printable.Line(a.Value.String()))
		}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, []byte(b.String()), unix.MSG_NOSIGNAL,
		&unix.SockaddrUnix{Name: "/run/systemd/journal/socket"})
}
