package app

import (
	"fmt"

	"github.com/rkt-toolkit/rkt/lib/host/sysctl"
	"golang.org/x/sys/unix"
)

// setSysctl sets kernel parameters of the pod's IPC namespace. The pod's /proc/sys is read-only:
// they are written by way of a copy of that mount which is mounted nowhere. Those of the network
// namespace, some of which need CAP_NET_ADMIN there, rkt-run-prepared has set.
func setSysctl(parameters map[string]string) error {
	own := map[string]string{}
	for name, value := range parameters {
		if err := sysctl.Check(name, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if sysctl.IsIPC(name) {
			own[name] = value
		}
	}
	if len(own) == 0 {
		return nil
	}
	tree, err := clone(unix.AT_FDCWD, "/proc/sys", true)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	writable := unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &writable); err != nil {
		return err
	}
	return sysctl.Set(tree, own)
}
