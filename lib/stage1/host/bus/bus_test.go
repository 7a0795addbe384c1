package bus

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// start starts a bus whose users may have so many connections, and returns its socket.
func start(t *testing.T, most int) string {
	t.Helper()
	dir := t.TempDir()
	socket, config := filepath.Join(dir, "bus"), filepath.Join(dir, "bus.conf")
	text := fmt.Sprintf(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow send_destination="*"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
  <limit name="max_connections_per_user">%d</limit>
</busconfig>
`, socket, most)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile", "--nosyslog")
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; install Debian's package dbus-daemon", err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		// the socket is there before somebody listens to it
		if connection, err := net.Dial("unix", socket); err == nil {
			connection.Close()
			return socket
		}
		if time.Now().After(end) {
			t.Fatal("dbus-daemon does not start")
		}
	}
}

// A user has as many connections as the bus has it, and one more when one of them was closed.
func TestReserve(t *testing.T) {
	const most = 3
	socket := start(t, most)
	var last interface{ Close() error }
	for range most {
		connection, err := Reserve(socket)
		if err != nil || connection == nil {
			t.Fatalf("%v, %v", connection, err)
		}
		defer connection.Close()
		last = connection
	}
	_, err := Reserve(socket)
	want := "no connection left ... UID " + fmt.Sprint(os.Getuid()) + " ... max_connections_per_user ... " +
		`echo '<busconfig><limit name="max_connections_per_user">2048</limit></busconfig>' ` +
		">/etc/dbus-1/system.d/pods.conf; systemctl kill --signal=HUP dbus"
	if !testkit.Says(err, want) {
		t.Errorf("%v\nwant\n%v", err, want)
	}
	last.Close()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		connection, err := Reserve(socket)
		if err == nil && connection != nil {
			connection.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after one was closed: %v", err)
		}
	}
}

// What is no bus keeps no pod from starting.
func TestNoBus(t *testing.T) {
	if connection, err := Reserve(filepath.Join(t.TempDir(), "none")); connection != nil || err != nil {
		t.Errorf("%v, %v", connection, err)
	}
}

// Answers that are no error of that name, or are cut off.
func TestLimitsExceeded(t *testing.T) {
	const name = "\x04\x01s\x00\x28\x00\x00\x00org.freedesktop.DBus.Error.LimitsExceeded\x00"
	head := func(kind byte, fields int) string {
		return "l" + string(kind) + "\x00\x01\x08\x00\x00\x00\x01\x00\x00\x00" + string([]byte{byte(fields), 0, 0, 0})
	}
	padded := name + strings.Repeat("\x00", (8-len(name)%8)%8)
	for _, c := range []struct{ message, want string }{
		{"", ""},
		{"l\x03", ""},
		{head(2, len(name)) + padded + "\x02\x00\x00\x00no\x00", ""},
		{head(3, len(name)) + padded + "\x02\x00\x00\x00no\x00", "no"},
		{head(3, len(name)) + padded + "\xff\x00\x00\x00no", "no"},
		{head(3, len(name)) + padded + "\x02", "it has reached a limit"},
		{head(3, 255) + padded, "it has reached a limit"},
		{head(3, 0) + "\x00org.freedesktop.DBus.Error.AccessDenied\x00", ""},
	} {
		if got := limitsExceeded([]byte(c.message)); got != c.want {
			t.Errorf("%q: %q, want %q", c.message, got, c.want)
		}
	}
}

// Whatever the answer is ends the call: nobody has that name on this bus.
func TestUnregister(t *testing.T) {
	if err := Unregister(start(t, 3), "rkt-0", 10*time.Second); err != nil {
		t.Error(err)
	}
	if err := Unregister(filepath.Join(t.TempDir(), "none"), "rkt-0", time.Second); err == nil {
		t.Error("no error without a bus")
	}
}
