package running

import (
	"fmt"
	"io"
	"os"

	"github.com/rkt-toolkit/rkt/lib/host/openat"
	"golang.org/x/sys/unix"
)

// maxInside bounds a file that ReadInside reads.
const maxInside = 32 << 10

// ReadInside reads a small file of a running pod as its PID 1 sees it, at a path below "/". No link
// is followed, and nothing is waited for. It is an error for a pod that does not run, or is
// starting.
func (p Pod) ReadInside(path string) ([]byte, error) {
	supervisor, err := p.Supervisor()
	if err != nil {
		return nil, err
	}
	if held, err := p.HeldBy(supervisor); err != nil || !held {
		return nil, fmt.Errorf("pod %s: is not running", p.UUID)
	}
	leader := p.Flavor.Init(supervisor)
	if leader == 0 {
		return nil, fmt.Errorf("pod %s: is still starting", p.UUID)
	}
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", leader), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	defer unix.Close(root)
	fd, err := openat.FD(root, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, openat.NoLinks)
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", path)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxInside))
}
