package notify

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"golang.org/x/sys/unix"
)

func TestOutbox(t *testing.T) {
	for _, test := range []struct {
		apps []string
		said []message
		want string
	}{
		{[]string{"a"}, nil, ""},
		{[]string{"a"}, []message{{app: "a", text: []byte("READY=1\nSTATUS=well\nMAINPID=1\nFDSTORE=1")}},
			"STATUS=well"},
		{[]string{"a", "b"}, []message{{app: "b", text: []byte("STATUS=well")}}, "STATUS=b: well"},
		{[]string{"a"}, []message{{app: "a", text: []byte("WATCHDOG=1")}}, "WATCHDOG=1"},
		{[]string{"a", "b"}, []message{{app: "a", text: []byte("WATCHDOG=1\nSTOPPING=1")}}, ""},
		{[]string{"a", "b"}, []message{{app: "a", text: []byte("WATCHDOG=1")},
			{app: "b", text: []byte("x\nWATCHDOG=1\n")}}, "WATCHDOG=1"},
		{[]string{"a", "b"}, []message{{app: "a", text: []byte("WATCHDOG=trigger")}}, "WATCHDOG=trigger"},
		{[]string{"a"}, []message{{app: "a", text: []byte("EXTEND_TIMEOUT_USEC=5000000\nSTATUS=\xff")}},
			"STATUS=?\nEXTEND_TIMEOUT_USEC=5000000"},
		{[]string{"a"}, []message{{app: "a", text: []byte("STATUS=\x1b]0;x\a\x1b[31m\tred\u009b2J\u202e\r\nNAME=y")}},
			"STATUS=?]0;x??[31m red?2J??"},
		{[]string{"a"},
			[]message{{app: "a",
				text: []byte("EXTEND_TIMEOUT_USEC=x\nWATCHDOG=0\nWATCHDOG_USEC=1\nERRNO=1\nRELOADING=1")}}, ""},
	} {
		sockets := map[string]*net.UnixConn{}
		for _, app := range test.apps {
			sockets[app] = nil
		}
		o := newOutbox(sockets)
		for _, m := range test.said {
			o.add(m)
		}
		if got := o.take(); got != test.want {
			t.Errorf("%v, %v: got %q, want %q", test.apps, test.said, got, test.want)
		}
		if again := o.take(); again != "" {
			t.Errorf("%v: a second time: %q", test.said, again)
		}
	}
}

// TestServe has a message reach both systemds, in the name of its sender at the pod's.
func TestServe(t *testing.T) {
	dir := t.TempDir()
	listen := func(name string) *net.UnixConn {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		t.Cleanup(func() { c.Close() })
		return c
	}
	app, inner, outer := listen("app"), listen("inner"), listen("outer")
	go Serve(map[string]*net.UnixConn{"app": app}, filepath.Join(dir, "inner"), filepath.Join(dir, "outer"),
		filepath.Join(dir, "ready"))
	if err := systemd.Notify(filepath.Join(dir, "app"), []byte("READY=1\nSTATUS=well"), nil); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		at   *net.UnixConn
		want string
	}{{inner, "READY=1\nSTATUS=well"}, {outer, "STATUS=well"}} {
		text, control := make([]byte, 100), make([]byte, 100)
		if test.at == outer && !waits(t, outer) {
			t.Error("the pod's systemd was told that the app is ready before the host knew its status")
		}
		n, nc, _, _, err := test.at.ReadMsgUnix(text, control)
		if err != nil || string(text[:n]) != test.want {
			t.Fatalf("got %q, %v, want %q", text[:n], err, test.want)
		}
		parts, err := unix.ParseSocketControlMessage(control[:nc])
		if err != nil || len(parts) != 1 {
			t.Fatalf("%v, %v", parts, err)
		}
		creds, err := unix.ParseUnixCredentials(&parts[0])
		if err != nil || int(creds.Pid) != os.Getpid() {
			t.Fatalf("%+v, %v", creds, err)
		}
	}
}

// waits reports whether a message waits at a socket now.
func waits(t *testing.T, c *net.UnixConn) (found bool) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		var n int
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		found = n == 1
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func FuzzOutbox(f *testing.F) {
	f.Add([]byte("READY=1\nSTATUS=well\nWATCHDOG=1"))
	f.Add([]byte("STATUS=\n=\nWATCHDOG"))
	f.Fuzz(func(t *testing.T, text []byte) {
		o := newOutbox(map[string]*net.UnixConn{"a": nil})
		o.add(message{app: "a", text: text})
		for _, line := range []string{"MAINPID", "READY", "FDSTORE", "STOPPING", "RELOADING", "BARRIER"} {
			for _, got := range lines(o.take()) {
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
	o := newOutbox(map[string]*net.UnixConn{"a": nil})
	o.add(message{app: "a", text: []byte("STATUS=well")})
	o.take()
	ready := false
	isReady := func() bool { return ready }
	if o.remind(isReady); o.take() != "" {
		t.Error("reminded before the pod was ready")
	}
	ready = true
	told := 0
	for range 3 * reminders {
		o.remind(isReady)
		switch got := o.take(); got {
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
