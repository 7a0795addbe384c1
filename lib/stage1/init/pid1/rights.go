package pid1

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
	"golang.org/x/sys/unix"
)

// rest are the capabilities that are needed when nothing is to be started any more: to stop apps,
// and, if their lines go to the host's journal, to send these in the name of an app's process.
func rest(journal bool) uint64 {
	keep := uint64(1) << unix.CAP_KILL
	if journal {
		keep |= 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_PTRACE
	}
	return keep
}

// startsMore reports whether something of an app is to be started while the apps run, or later.
func startsMore(apps []plan.App) bool {
	for _, a := range apps {
		if a.Health != nil || a.PostStop || len(a.Streams) > 0 {
			return true
		}
	}
	return false
}

// giveUp gives up, when all apps run, the capabilities that nothing needs any more. An app that
// runs as root, and has more of them, could look into a process that can be dumped (ptrace(2)).
func (p *pod) giveUp() error {
	if startsMore(p.plan.Apps) {
		return nil
	}
	keep := rest(isSocket(streams.HostJournal))
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("dumpable: %w", err)
	}
	// No exec gives any back.
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("no_new_privs: %w", errno)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	for i := range sets {
		part := uint32(keep >> (32 * i))
		sets[i].Permitted, sets[i].Effective = part, part
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)),
		uintptr(unsafe.Pointer(&sets[0])), 0)
	if errno != 0 {
		return fmt.Errorf("capabilities: %w", errno)
	}
	return nil
}

// isSocket reports whether a file is a socket, and not the empty file that one is mounted on.
func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeSocket != 0
}
