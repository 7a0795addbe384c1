package place

import (
	"os"
	"os/signal"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"golang.org/x/sys/unix"
)

// IgnoreReload has systemd-nspawn ignore, in a service, the signals that ask programs to read their
// configuration or open their logs again. It would die of them, and systemd takes death by SIGHUP
// for success. So "systemctl kill --signal=HUP UNIT" reaches what is in the pod, whose processes
// systemd-nspawn starts with the default dispositions. At a terminal SIGHUP still says that it is
// gone.
func IgnoreReload(stdin *os.File) {
	if strings.HasSuffix(systemd.Unit(), ".service") && !IsTerminal(stdin) {
		signal.Ignore(unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2)
	}
}

// IsTerminal reports whether a file is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
