// Package userns owns a pod's range of user and group IDs on the host (user_namespaces(7)) and
// mounts that show files shifted into it: what belongs to ID N on the disk belongs to ID N in the
// pod, and nothing on the disk is changed.
package userns

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Count is how many IDs a pod has.
const Count = 1 << 16

// The first and the last range that systemd keeps for containers (systemd's UIDS-GIDS.md), in
// ranges.
const firstRange, lastRange = 0x0008, 0x6fff

// Range is the IDs of a pod: Base on the host is 0 in the pod.
type Range struct{ Base uint32 }

// Free yields the ranges that overlap with none of the spans, all of them once, beginning with the
// one of a random number.
func Free(random uint32, taken []Span) iter.Seq[Range] {
	const ranges = lastRange - firstRange + 1
	return func(yield func(Range) bool) {
		for i := range uint32(ranges) {
			r := Range{(firstRange + (random%ranges+i)%ranges) << 16}
			if !slices.ContainsFunc(taken, func(s Span) bool { return s.overlaps(r) }) && !yield(r) {
				return
			}
		}
	}
}

// Parse reads what String gives.
func Parse(s string) (Range, error) {
	base, count, _ := strings.Cut(strings.TrimSuffix(s, "\n"), ":")
	n, err := strconv.ParseUint(base, 10, 32)
	if err != nil || count != strconv.Itoa(Count) || n%Count != 0 || n>>16 < firstRange || n>>16 > lastRange {
		return Range{}, fmt.Errorf("%q: not a range of user IDs", s)
	}
	return Range{uint32(n)}, nil
}

// String is BASE:COUNT.
func (r Range) String() string { return fmt.Sprintf("%d:%d", r.Base, Count) }

// Open makes a user namespace with these IDs. The calling goroutine must be locked to its thread.
//
// A namespace needs a process to begin with: it is one of this program that the kernel stops at its
// execve(2), before it does anything, and that is killed then.
func (r Range) Open() (*os.File, error) {
	cmd := &exec.Cmd{Path: "/proc/self/exe", SysProcAttr: &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, Ptrace: true, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(r.Base), Size: Count}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(r.Base), Size: Count}},
	}}
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("new user namespace: %w", err)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid))
	cmd.Process.Kill()
	cmd.Wait()
	return ns, err
}

// Shift has the files of a mount, opened as by open_tree(2), belong to the IDs of a namespace.
func Shift(tree int, ns *os.File) error {
	err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE,
		&unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())})
	if errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("%w: %w", ErrCannotShift, err)
	}
	return err
}

// ErrCannotShift is of files that a user namespace's IDs can't own.
var ErrCannotShift = errors.New("its file system can't show its files with other owners (ext4, xfs, btrfs, and tmpfs " +
	"since Linux 6.3 can)")

// Try reports by its error whether the files of a directory or file can be shifted, recursively
// with what is mounted below. Nothing is mounted.
func Try(name string, recursive bool, ns *os.File) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_NO_AUTOMOUNT)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, name, flags)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return Shift(tree, ns)
}

// Over mounts a directory over itself, shifted, without what is mounted below it.
func Over(dir string, ns *os.File) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	defer unix.Close(tree)
	if err := Shift(tree, ns); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
}

// As has the calling thread, which must be locked, make files as the range's root for as long as f
// takes. Other IDs can't be owners in a shifted mount.
func (r Range) As(f func() error) error {
	set := func(id uint32) error {
		err := unix.Setfsgid(int(id))
		if err == nil {
			err = unix.Setfsuid(int(id))
		}
		if err != nil {
			return fmt.Errorf("file system user %d: %w", id, err)
		}
		return nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all [2]unix.CapUserData
	if err := unix.Capget(&header, &all[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if err := set(r.Base); err != nil {
		return err
	}
	if err := unix.Capset(&header, &all[0]); err != nil { // the kernel takes those away that are about files
		return errors.Join(fmt.Errorf("capabilities: %w", err), set(0))
	}
	return errors.Join(f(), set(0))
}
