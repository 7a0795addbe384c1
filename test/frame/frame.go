// Package frame sends packets by AF_PACKET, past the routes and the filters of the sender's kernel,
// as a hostile app can that has CAP_NET_RAW, and reports whether they are answered.
package frame

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const port = 40404 // of the sender

// Answered sends a TCP SYN or a UDP datagram ("tcp", "udp") to an address by an interface, several
// times, to whatever machine is at the other end of the interface, and reports whether an answer
// comes back. It comes from the address source, or, where that is not valid, from the interface's
// own.
func Answered(device, protocol string, source netip.Addr, to netip.AddrPort) (bool, error) {
	from, err := net.InterfaceByName(device)
	if err == nil && !source.IsValid() {
		source, err = ownAddress(from, to.Addr())
	}
	if err != nil {
		return false, err
	}
	kind := uint16(unix.ETH_P_IP)
	packet := ipv4
	if to.Addr().Is6() {
		kind, packet = unix.ETH_P_IPV6, ipv6
	}
	number := byte(unix.IPPROTO_TCP)
	if protocol == "udp" {
		number = unix.IPPROTO_UDP
	}
	peer, err := neighbour(device)
	if err != nil {
		return false, err
	}
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(network(kind)))
	if err != nil {
		return false, fmt.Errorf("AF_PACKET: %w", err)
	}
	defer unix.Close(socket)
	address := &unix.SockaddrLinklayer{Protocol: network(kind), Ifindex: from.Index, Halen: 6}
	copy(address.Addr[:], peer)
	wait := &unix.Timeval{Usec: 100_000}
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, wait); err != nil {
		return false, err
	}
	text := packet(source, to.Addr(), number, segment(number, source, to))
	for range 5 {
		if err := unix.Sendto(socket, text, 0, address); err != nil {
			return false, fmt.Errorf("send: %w", err)
		}
		if answered, err := answer(socket, number, to); answered || err != nil {
			return answered, err
		}
	}
	return false, nil
}

func network(v uint16) uint16 { return v<<8 | v>>8 }

// ownAddress is one that an answer can reach.
func ownAddress(device *net.Interface, to netip.Addr) (netip.Addr, error) {
	addresses, err := device.Addrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addresses {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() == to.Is4() {
			return prefix.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s: has no address of the family of %s", device.Name, to)
}

// neighbour is the hardware address of the gateway beyond a device.
func neighbour(device string) (net.HardwareAddr, error) {
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(routes)) {
		f := strings.Fields(line)
		gateway, err := hex.DecodeString(f[2])
		if err != nil || f[0] != device || f[2] == "00000000" {
			continue
		}
		ip := netip.AddrFrom4([4]byte{gateway[3], gateway[2], gateway[1], gateway[0]})
		for range 50 {
			// It has the kernel ask who that is.
			if c, err := net.Dial("udp", netip.AddrPortFrom(ip, 9).String()); err == nil {
				c.Write([]byte("?"))
				c.Close()
			}
			time.Sleep(20 * time.Millisecond)
			known, err := os.ReadFile("/proc/net/arp")
			if err != nil {
				return nil, err
			}
			for line := range strings.Lines(string(known)) {
				if f := strings.Fields(line); f[0] == ip.String() && f[3] != "00:00:00:00:00:00" {
					return net.ParseMAC(f[3])
				}
			}
		}
	}
	return nil, fmt.Errorf("%s: no gateway that answers", device)
}

// answer waits for a packet that answers the one that was sent.
func answer(socket int, number byte, sent netip.AddrPort) (bool, error) {
	var b [2048]byte
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
		n, _, err := unix.Recvfrom(socket, b[:], 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("receive: %w", err)
		}
		protocol, source, payload := parse(b[:n])
		if protocol != number || source != sent.Addr() || len(payload) < 8 ||
			binary.BigEndian.Uint16(payload) != sent.Port() || binary.BigEndian.Uint16(payload[2:]) != port {
			continue
		}
		return true, nil // a reset is one too: the packet has reached the address
	}
	return false, nil
}

func parse(p []byte) (protocol byte, source netip.Addr, payload []byte) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4 && len(p) >= int(p[0]&15)*4:
		source, _ = netip.AddrFromSlice(p[12:16])
		return p[9], source, p[int(p[0]&15)*4:]
	case len(p) >= 40 && p[0]>>4 == 6:
		source, _ = netip.AddrFromSlice(p[8:24])
		return p[6], source, p[40:]
	}
	return 0, netip.Addr{}, nil
}

// segment is a TCP SYN or a UDP datagram.
func segment(number byte, from netip.Addr, to netip.AddrPort) []byte {
	s := binary.BigEndian.AppendUint16(nil, port)
	s = binary.BigEndian.AppendUint16(s, to.Port())
	at := 6 // of the checksum
	if number == unix.IPPROTO_UDP {
		text := "frame\n"
		s = binary.BigEndian.AppendUint16(s, uint16(8+len(text)))
		s = append(append(s, 0, 0), text...)
	} else {
		at = 16
		s = binary.BigEndian.AppendUint32(s, 1) // sequence number
		s = append(s, 0, 0, 0, 0)               // acknowledged
		s = append(s, 5<<4, 2 /* SYN */, 0xff, 0xff)
		s = append(s, 0, 0, 0, 0) // checksum, urgent
	}
	pseudo := append(append([]byte{}, from.AsSlice()...), to.Addr().AsSlice()...)
	pseudo = append(pseudo, 0, number)
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(s)))
	binary.BigEndian.PutUint16(s[at:], checksum(append(pseudo, s...)))
	return s
}

func ipv4(from, to netip.Addr, number byte, payload []byte) []byte {
	p := []byte{4<<4 | 5, 0}
	p = binary.BigEndian.AppendUint16(p, uint16(20+len(payload)))
	p = append(p, 0, 1, 0, 0, 64, number, 0, 0)
	p = append(append(p, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(p[10:], checksum(p))
	return append(p, payload...)
}

func ipv6(from, to netip.Addr, number byte, payload []byte) []byte {
	p := binary.BigEndian.AppendUint16([]byte{6 << 4, 0, 0, 0}, uint16(len(payload)))
	p = append(p, number, 64)
	p = append(append(p, from.AsSlice()...), to.AsSlice()...)
	return append(p, payload...)
}

// checksum is the Internet's (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
