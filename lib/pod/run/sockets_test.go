package run

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

func TestDescribe(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct{ network, address, kind, protocol, want string }{
		{"tcp4", "127.0.0.1:0", "ListenStream", "tcp", "127.0.0.1:"},
		{"tcp6", "[::1]:0", "ListenStream", "tcp", "[::1]:"},
		{"tcp", ":0", "ListenStream", "tcp", "[::]:"},
		{"udp4", "127.0.0.1:0", "ListenDatagram", "udp", "127.0.0.1:"},
		{"unix", filepath.Join(dir, "a 100%"), "ListenStream", "unix", dir + "/a 100%"},
		{"unixgram", filepath.Join(dir, "d"), "ListenDatagram", "unix", dir + "/d"},
		{"unixpacket", filepath.Join(dir, "p"), "ListenSequentialPacket", "unix", dir + "/p"},
		{"unix", "@abstract-" + filepath.Base(dir), "ListenStream", "unix", "@abstract-"},
	} {
		var file *os.File
		if strings.HasPrefix(test.network, "udp") || test.network == "unixgram" {
			c, err := net.ListenPacket(test.network, test.address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			file, _ = c.(interface{ File() (*os.File, error) }).File()
		} else {
			l, err := net.Listen(test.network, test.address)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			file, _ = l.(interface{ File() (*os.File, error) }).File()
		}
		s, err := describe(int(file.Fd()))
		if err != nil || s.kind != test.kind || s.protocol != test.protocol ||
			!strings.HasPrefix(s.address, test.want) {
			t.Errorf("%s %s: %+v, %v", test.network, test.address, s, err)
		}
		file.Close()
	}

	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	if _, err := describe(pair[0]); !testkit.Says(err, "Accept=yes") {
		t.Errorf("a connection: %v", err)
	}
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := describe(int(file.Fd())); !testkit.Says(err, "not a socket") {
		t.Errorf("/dev/null: %v", err)
	}
	odd, err := net.Listen("unix", filepath.Join(dir, "a\nb"))
	if err != nil {
		t.Fatal(err)
	}
	defer odd.Close()
	file, _ = odd.(*net.UnixListener).File()
	defer file.Close()
	if _, err := describe(int(file.Fd())); !testkit.Says(err, "unit file") {
		t.Errorf("a path with a newline: %v", err)
	}
}

func TestBelongs(t *testing.T) {
	for _, test := range []struct {
		socket socket
		port   appPort
		want   bool
	}{
		{socket{protocol: "tcp", port: 80}, appPort{name: "80-tcp", protocol: "tcp", port: 80, count: 1}, true},
		{socket{protocol: "udp", port: 80}, appPort{name: "80-tcp", protocol: "tcp", port: 80, count: 1}, false},
		{socket{protocol: "tcp", port: 81}, appPort{name: "80-tcp", protocol: "tcp", port: 80, count: 1}, false},
		{socket{protocol: "tcp", port: 81}, appPort{name: "range", protocol: "tcp", port: 80, count: 2}, true},
		{socket{protocol: "tcp", port: 8080, name: "80-tcp"}, appPort{name: "80-tcp", protocol: "tcp", port: 80,
			count: 1}, true},
		{socket{protocol: "unix", name: "control"}, appPort{name: "control", protocol: "unix", port: 1, count: 1},
			true},
		{socket{protocol: "unix", name: "x.socket"}, appPort{name: "control", protocol: "unix", port: 1, count: 1},
			false},
	} {
		if got := test.socket.belongs(test.port); got != test.want {
			t.Errorf("%+v, %+v: %v", test.socket, test.port, got)
		}
	}
}

// A port of the host that was chosen for a socket is told of where nobody listens there.
func TestMissing(t *testing.T) {
	ports := []appPort{
		{app: "web", name: "http", protocol: "tcp", port: 8080, count: 1, chosen: true},
		{app: "web", name: "dns", protocol: "udp", port: 5300, count: 2, chosen: true},
		{app: "web", name: "control", protocol: "unix"},
	}
	for _, c := range []struct {
		sockets []socket
		want    string
	}{
		{nil, "8080 5300"},
		{[]socket{{protocol: "tcp", port: 8080}, {protocol: "udp", port: 5301}}, ""},
		{[]socket{{protocol: "udp", port: 8080}, {name: "dns", protocol: "tcp"}}, "8080"},
	} {
		var got []string
		for _, line := range missing(ports, c.sockets) {
			number, _, _ := strings.Cut(strings.TrimPrefix(line, "nothing listens on port "), " ")
			got = append(got, number)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%+v: %s, want %s", c.sockets, s, c.want)
		}
	}
}
