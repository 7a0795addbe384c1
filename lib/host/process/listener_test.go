package process

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestListener(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "tcp4": "0.0.0.0:0", "tcp6": "[::1]:0"} {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		at := l.Addr().(*net.TCPAddr).AddrPort()
		for _, asked := range []netip.Addr{at.Addr().Unmap(), netip.IPv4Unspecified()} {
			pid, name := Listener("tcp", asked, int(at.Port()))
			// the kernel keeps 15 bytes of a name
			if want := filepath.Base(self); pid != os.Getpid() || name != want[:min(len(want), 15)] {
				t.Errorf("%s at %s: %d, %s", at, asked, pid, name)
			}
		}
		if pid, name := Listener("tcp", netip.MustParseAddr("192.0.2.7"), int(at.Port())); (pid != 0) !=
			at.Addr().IsUnspecified() {
			t.Errorf("%s at another address: %d, %s", at, pid, name)
		}
		if pid, _ := Listener("udp", at.Addr(), int(at.Port())); pid != 0 {
			t.Errorf("udp: %d", pid)
		}
	}
	if pid, _ := Listener("sctp", netip.IPv4Unspecified(), 80); pid != 0 {
		t.Errorf("sctp: %d", pid)
	}
}
