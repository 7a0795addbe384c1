package process

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Listener returns the process of this network namespace that has a port at an address, or at one
// that overlaps with it: its number, and the name that ps(1) shows. It is 0 if none is found. The
// protocol is tcp or udp.
func Listener(protocol string, address netip.Addr, port int) (pid int, name string) {
	sockets := listening(protocol, address, port)
	if len(sockets) == 0 {
		return 0, ""
	}
	found := All(func(pid int) bool {
		descriptors, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		return slices.ContainsFunc(descriptors, func(path string) bool {
			target, err := os.Readlink(path)
			return err == nil && slices.Contains(sockets, target)
		})
	})
	if len(found) == 0 {
		return 0, ""
	}
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", found[0]))
	return found[0], strings.TrimSpace(string(comm))
}

// listening returns the sockets that are bound to a port, as links in /proc/PID/fd name them
// (proc_pid_net(5)).
func listening(protocol string, address netip.Addr, port int) (sockets []string) {
	unconnected := map[string]string{"tcp": "0A", "udp": "07"}[protocol]
	for _, table := range []string{protocol, protocol + "6"} {
		text, _ := os.ReadFile("/proc/self/net/" + table)
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[3] != unconnected {
				continue
			}
			at, number, _ := strings.Cut(fields[1], ":")
			if n, err := strconv.ParseUint(number, 16, 16); err != nil || int(n) != port {
				continue
			}
			bound := kernelAddress(at)
			if bound.IsUnspecified() || address.IsUnspecified() || bound == address {
				sockets = append(sockets, "socket:["+fields[9]+"]")
			}
		}
	}
	return sockets
}

// kernelAddress parses an address of /proc/net/tcp: hexadecimal words of four bytes, the lowest
// byte first.
func kernelAddress(s string) netip.Addr {
	b, err := hex.DecodeString(s)
	if err != nil || len(b)%4 != 0 {
		return netip.Addr{}
	}
	for word := range slices.Chunk(b, 4) {
		slices.Reverse(word)
	}
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap()
}
