package initflavor

import (
	"os"
	"strconv"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
	"golang.org/x/sys/unix"
)

// openTerminal makes a pseudo terminal of the host's for the pod, whose root owns it, and returns
// the descriptor of its master.
func (s *starting) openTerminal() (master int, err error) {
	if master, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return -1, err
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, err
	}
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return -1, err
	}
	s.console = "/dev/pts/" + strconv.Itoa(number)
	if s.Users != nil {
		if err := os.Chown(s.console, int(s.Users.Base), int(s.Users.Base)); err != nil {
			return -1, err
		}
	}
	if place.IsTerminal(s.Stdin) {
		return master, nil
	}
	settings, err := unix.IoctlGetTermios(master, unix.TCGETS)
	if err != nil {
		return -1, err
	}
	settings.Oflag &^= unix.ONLCR // which is wrong in a pipe or a file
	return master, unix.IoctlSetTermios(master, unix.TCSETS, settings)
}

// mountConsole mounts the pod's terminal, whose owner is the app's user later, or what takes
// everything and has nothing.
func (s *starting) mountConsole(root *os.File) error {
	const console = "/dev/console"
	if s.console == "" {
		return overlay.BindNode(unix.AT_FDCWD, "/dev/null", root, console)
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, s.console, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	target, err := overlay.MountPoint(root, console, tree)
	if err != nil {
		return err
	}
	defer target.Close()
	return overlay.MoveTo(tree, target)
}
