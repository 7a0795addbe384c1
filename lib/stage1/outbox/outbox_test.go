package outbox

import "testing"

// message is what an app says.
type message struct{ app, text string }

func TestOutbox(t *testing.T) {
	for _, test := range []struct {
		apps []string
		said []message
		want string
	}{
		{[]string{"a"}, nil, ""},
		{[]string{"a"}, []message{{app: "a", text: "READY=1\nSTATUS=well\nMAINPID=1\nFDSTORE=1"}}, "STATUS=well"},
		{[]string{"a", "b"}, []message{{app: "b", text: "STATUS=well"}}, "STATUS=b: well"},
		{[]string{"a"}, []message{{app: "a", text: "WATCHDOG=1"}}, "WATCHDOG=1"},
		{[]string{"a", "b"}, []message{{app: "a", text: "WATCHDOG=1\nSTOPPING=1"}}, ""},
		{[]string{"a", "b"}, []message{{app: "a", text: "WATCHDOG=1"}, {app: "b", text: "x\nWATCHDOG=1\n"}},
			"WATCHDOG=1"},
		{[]string{"a", "b"}, []message{{app: "a", text: "WATCHDOG=trigger"}}, "WATCHDOG=trigger"},
		{[]string{"a"}, []message{{app: "a", text: "EXTEND_TIMEOUT_USEC=5000000\nSTATUS=\xff"}},
			"STATUS=?\nEXTEND_TIMEOUT_USEC=5000000"},
		{[]string{"a"}, []message{{app: "a", text: "STATUS=\x1b]0;x\a\x1b[31m\tred\u009b2J\u202e\r\nNAME=y"}},
			"STATUS=?]0;x??[31m red?2J??"},
		{[]string{"a"}, []message{{app: "a", text: "EXTEND_TIMEOUT_USEC=x\nWATCHDOG=0\nWATCHDOG_USEC=1\nRELOADING=1"}},
			""},
	} {
		o := New(test.apps)
		for _, m := range test.said {
			o.Add(m.app, []byte(m.text))
		}
		if got := o.Take(); got != test.want {
			t.Errorf("%v, %v: got %q, want %q", test.apps, test.said, got, test.want)
		}
		if again := o.Take(); again != "" {
			t.Errorf("%v: a second time: %q", test.said, again)
		}
	}
}

func FuzzOutbox(f *testing.F) {
	f.Add([]byte("READY=1\nSTATUS=well\nWATCHDOG=1"))
	f.Add([]byte("STATUS=\n=\nWATCHDOG"))
	f.Fuzz(func(t *testing.T, text []byte) {
		o := New([]string{"a"})
		o.Add("a", text)
		for _, line := range []string{"MAINPID", "READY", "FDSTORE", "STOPPING", "RELOADING", "BARRIER"} {
			for _, got := range lines(o.Take()) {
				if len(got) >= len(line) && got[:len(line)] == line {
					t.Fatalf("%q lets %q out", text, got)
				}
			}
		}
	})
}

func lines(s string) (all []string) {
	start := 0
	for i := range len(s) {
		if s[i] == '\n' {
			all, start = append(all, s[start:i]), i+1
		}
	}
	return append(all, s[start:])
}

// TestRemind has the host told a status again once the pod is ready, for a while.
func TestRemind(t *testing.T) {
	o := New([]string{"a"})
	o.Add("a", []byte("STATUS=well"))
	o.Take()
	ready := false
	isReady := func() bool { return ready }
	if o.Remind(isReady); o.Take() != "" {
		t.Error("reminded before the pod was ready")
	}
	ready = true
	told := 0
	for range 3 * reminders {
		o.Remind(isReady)
		switch got := o.Take(); got {
		case "STATUS=well":
			told++
		case "":
		default:
			t.Errorf("got %q", got)
		}
	}
	if told != reminders {
		t.Errorf("reminded %d times, want %d", told, reminders)
	}
}
