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
