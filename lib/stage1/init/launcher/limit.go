package launcher

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/rkt-toolkit/rkt/lib/stage1/init/pid1"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
	"golang.org/x/sys/unix"
)

// limit moves the pod's PID 1 from the pod's group, which its cgroup namespace begins at by now,
// into one of its own, since a group with controllers below has no process. Then the groups of the
// apps get controllers and limits.
func limit(fds passed, limits []plan.Limit, init int) error {
	err := write(fds.group, pid1.OwnGroup+"/cgroup.procs", strconv.Itoa(init))
	if errors.Is(err, unix.ESRCH) { // it has failed, and said why
		return nil
	}
	if err != nil {
		return err
	}
	for _, group := range []string{"", pid1.AppsGroup + "/"} {
		for _, c := range fds.controllers {
			if err := write(fds.group, group+"cgroup.subtree_control", "+"+c); err != nil {
				return err
			}
		}
	}
	for _, l := range limits {
		if !slices.Contains(fds.controllers, l.Controller) {
			continue // which has been told
		}
		if err := write(fds.group, l.File, l.Text); err != nil {
			return err
		}
	}
	return nil
}

// write writes a file of a group below one that is open.
func write(group int, file, text string) error {
	fd, err := unix.Openat(group, file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(text))
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("%q in %s: %w", text, file, err)
	}
	return nil
}
