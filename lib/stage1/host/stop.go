package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// haltSignal is SIGRTMIN+3, by which a systemd in a container is asked to halt (systemd(1)); glibc
// keeps the first two real-time signals.
const haltSignal = 34 + 3

// readsSignal reports whether a process reads a signal from a descriptor (signalfd(2)), as systemd
// does from early on until it ends. That it blocks the signal tells nothing: it does so for a
// moment at each fork, too, and what arrives then is dropped when it handles no signals yet.
func readsSignal(pid, signal int) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil { // it was closed
			continue
		}
		for line := range strings.Lines(string(text)) {
			hex, ok := strings.CutPrefix(line, "sigmask:")
			if mask, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64); ok && err == nil &&
				mask&(1<<(signal-1)) != 0 {
				return true
			}
		}
	}
	return false
}

// Stop is a signal to the pod's systemd, which can be asked as often as you like, by anybody: apps
// are stopped once. systemd-nspawn, which the host's systemd signals, passes the first SIGTERM on
// as such a request and takes a second one for "at once"; so it gets none from here.
func (Flavor) Stop(leader int) (signal unix.Signal, takes bool) {
	return haltSignal, readsSignal(leader, haltSignal)
}
