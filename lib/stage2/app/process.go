package app

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/confine"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// processOf is what the configuration says of the process's user and limits.
func processOf(config *specs.Spec, filters [][]unix.SockFilter) (*confine.Process, error) {
	p := config.Process
	process := &confine.Process{UID: p.User.UID, GID: p.User.GID, Groups: p.User.AdditionalGids,
		NoNewPrivileges: p.NoNewPrivileges,
		Filters:         filters}
	var err error
	if process.Bounding, err = stage1.CapabilitySet(p.Capabilities.Bounding); err != nil {
		return nil, err
	}
	process.Limits, err = stage1.Rlimits(p.Rlimits)
	return process, err
}

// prepareProcess sets what is done by way of /proc, or of a descriptor, while the process still is
// the pod's root.
func prepareProcess(config *specs.Spec) error {
	p := config.Process
	if p.OOMScoreAdj != nil {
		err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(*p.OOMScoreAdj)), 0)
		// A score below its own the kernel refuses to root in a container. As in rkt the app runs
		// all the same: rkt-prepare has warned of it.
		if err != nil && !(*p.OOMScoreAdj < 0 && errors.Is(err, os.ErrPermission)) {
			return as(statusOOM, fmt.Errorf("process.oomScoreAdj %d: %w", *p.OOMScoreAdj, err))
		}
	}
	if err := confine.AppArmor.Label(p.ApparmorProfile); err != nil {
		return as(statusAppArmor, err)
	}
	if err := confine.SELinux.Label(p.SelinuxLabel); err != nil {
		return as(statusSELinux, err)
	}
	if err := setSysctl(config.Linux.Sysctl); err != nil {
		return as(statusNamespace, fmt.Errorf("linux.sysctl: %w", err))
	}
	mask := 0o022
	if p.User.Umask != nil {
		mask = int(*p.User.Umask)
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // the umask and directories are this thread's from here
		return as(statusNamespace, err)
	}
	unix.Umask(mask)
	return as(statusTerminal, ownStreams(p.User.UID, p.User.GID))
}

// ownStreams gives the terminals and named pipes that are standard input, output or error to the
// app's user, who may open them again.
func ownStreams(uid, gid uint32) error {
	for fd := range 3 {
		if term.IsTerminal(fd) {
			if err := unix.Fchown(fd, int(uid), -1); err != nil {
				return fmt.Errorf("terminal: %w", err)
			}
			if err := unix.Fchmod(fd, 0o600); err != nil {
				return fmt.Errorf("terminal: %w", err)
			}
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
			continue
		}
		if err := unix.Fchown(fd, int(uid), int(gid)); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	return nil
}
