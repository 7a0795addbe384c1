package streams

import (
	"fmt"
	"strings"
	"testing"
)

// A message is read as journald reads it.
func TestParseSyslog(t *testing.T) {
	for message, want := range map[string]string{
		"<13>Nov  9 13:51:46 root: text":         "5 1 root|text",
		"<11>Nov 29 13:51:46 a/b[77]: x: y":      "3 1 a/b|x: y",
		"<131>tag: text\n\x00":                   "3 16 tag|text",
		"text alone":                             "6 1 |text alone",
		"<3>kernel":                              "3 1 |kernel",
		"<191>x":                                 "7 23 |x",
		"<192>x":                                 "6 1 |<192>x",
		"<>x":                                    "6 1 |<>x",
		"<1":                                     "6 1 |<1",
		"<-1>x":                                  "6 1 |<-1>x",
		"<13>Nov 29 13:51:46":                    "5 1 |Nov 29 13:51:46",
		"<13>Nov 29 13:51 a: x":                  "5 1 |Nov 29 13:51 a: x",
		"<13>tag:":                               "5 1 tag|",
		"<13>: x":                                "5 1 |: x",
		"<13>[1]: x":                             "5 1 [1]|x",
		"<13>a\nMESSAGE=b: x":                    "5 1 |a\nMESSAGE=b: x",
		"<13>a\x1bb: x":                          "5 1 |a\x1bb: x",
		"<13>" + strings.Repeat("t", 65) + ": x": "5 1 |" + strings.Repeat("t", 65) + ": x",
		"<13>  a: x":                             "5 1 a|x",
		"":                                       "6 1 |",
		"\x00":                                   "6 1 |",
	} {
		r := parseSyslog([]byte(message))
		if got := fmt.Sprintf("%d %d %s|%s", r.priority, r.facility, r.tag, r.text); got != want {
			t.Errorf("%q: %q, want %q", message, got, want)
		}
	}
}

// On the host a record is under the app's name, whatever the app says of itself.
func TestOnHost(t *testing.T) {
	r := parseSyslog([]byte("<80>sshd[1]: Failed password"))
	r.app, r.pid = "web", 7
	want := "SYSLOG_IDENTIFIER=sshd\nSYSLOG_FACILITY=10\nSYSLOG_PID=7\nPRIORITY=0\nRKT_POD=uuid\nRKT_APP=web\n" +
		"MESSAGE=Failed password\n"
	if got := string(r.native(nil, "uuid")); got != want {
		t.Errorf("%q", got)
	}
	want = "SYSLOG_IDENTIFIER=web\nSYSLOG_FACILITY=3\nSYSLOG_PID=7\nPRIORITY=1\nRKT_POD=uuid\nRKT_APP=web\n" +
		"MESSAGE=sshd: Failed password\n"
	if got := string(r.onHost().native(nil, "uuid")); got != want {
		t.Errorf("%q", got)
	}
}

func FuzzParseSyslog(f *testing.F) {
	f.Add("<13>Nov  9 13:51:46 a[1]: text")
	f.Fuzz(func(t *testing.T, message string) {
		r := parseSyslog([]byte(message))
		if strings.ContainsAny(r.tag, "\n\x00\x1b") || r.priority < 0 || r.priority > 7 || r.facility < 1 ||
			r.facility > 23 {
			t.Fatalf("%q: %+v", message, r)
		}
		if !strings.Contains(message, string(r.text)) {
			t.Fatalf("%q: text %q", message, r.text)
		}
	})
}
