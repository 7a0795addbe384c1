// Package netns makes and removes the network namespace of a pod. A namespace without a process
// lives as long as it is pinned: bind-mounted on a file, as ip-netns(8) does. The pin's path
// follows from the pod's UUID alone, so that it is found when the pod's directory is gone.
package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/program"
	"golang.org/x/sys/unix"
)

// Dir holds the pins. It is under /run because a reboot destroys the namespaces.
const Dir = "/run/rkt/netns"

// Path is where the namespace of the pod uuid is pinned.
func Path(uuid string) string { return filepath.Join(Dir, uuid) }

// owners has a link to the data directory for each pod that has a pin.
const owners = "/run/rkt/dirs"

func ownerPath(uuid string) string { return filepath.Join(owners, uuid) }

// UUIDs are those of the pods that have a pin, or something of one.
func UUIDs() (uuids []string, err error) {
	for _, dir := range []string{Dir, owners} {
		entries, readErr := os.ReadDir(dir)
		if !errors.Is(readErr, fs.ErrNotExist) {
			err = errors.Join(err, readErr)
		}
		for _, e := range entries {
			uuids = append(uuids, e.Name())
		}
	}
	slices.Sort(uuids)
	return slices.Compact(uuids), err
}

// Owner is the data directory that Create was told, or "".
func Owner(uuid string) string {
	data, _ := os.Readlink(ownerPath(uuid))
	return data
}

// Create makes a network namespace whose loopback interface is up, and pins it, for a pod of the
// data directory data. It is fs.ErrExist when there is a pin already, even one that holds nothing.
func Create(uuid, data string) error {
	for _, dir := range []string{Dir, owners} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	path := Path(uuid)
	data, err := filepath.Abs(data)
	if err != nil {
		return err
	}
	if err := os.Symlink(data, ownerPath(uuid)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	file.Close()
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("lo: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind mount: %w", err)
		}
		return nil
	})
	if err != nil {
		os.Remove(path)
		os.Remove(ownerPath(uuid))
		return fmt.Errorf("network namespace %s: %w", path, err)
	}
	return nil
}

// Release removes a pin; the kernel destroys the namespace, and what is in it, with its last
// process. No pin is success.
func Release(uuid string) error {
	path := Path(uuid)
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == nil || err == unix.EINTR {
			continue // mounts stack
		}
		if err == unix.EINVAL || err == unix.ENOENT { // not a mount point, not there
			break
		}
		return fmt.Errorf("network namespace %s: unmount: %w", path, err)
	}
	err := os.Remove(path)
	if errors.Is(err, unix.EBUSY) {
		if stopErr := unmountOnHost(path); stopErr != nil {
			return fmt.Errorf("%w; %w", err, stopErr)
		}
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(ownerPath(uuid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// notLoaded is systemctl's exit status for a unit that systemd does not know.
const notLoaded = 5

// unmountOnHost unmounts what is a mount point still in the host's mount namespace, which a service
// with a sandbox is not in; systemd is. That learns of a mount up to a second late when there are
// many (systemd limits how often it looks).
func unmountOnHost(path string) error {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out, err := program.Command(context.Background(), "systemctl", "stop", "--", path).CombinedOutput()
		if err == nil {
			return nil
		}
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.ExitCode() != notLoaded || time.Now().After(end) {
			return fmt.Errorf("systemctl stop: %s (%w)", strings.TrimSpace(string(out)), err)
		}
	}
}

// Pinned reports whether the pod's namespace is there: a reboot takes it, and a kill may leave a
// pin that holds nothing.
func Pinned(uuid string) bool {
	var st unix.Statfs_t
	return unix.Statfs(Path(uuid), &st) == nil && st.Type == unix.NSFS_MAGIC
}

// Used reports whether a process is in the pod's namespace.
func Used(uuid string) bool {
	var pinned unix.Stat_t
	if !Pinned(uuid) || unix.Stat(Path(uuid), &pinned) != nil {
		return false
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/ns/net") // whose only error is a wrong pattern
	for _, process := range processes {
		var st unix.Stat_t
		if unix.Stat(process, &st) == nil && st.Dev == pinned.Dev && st.Ino == pinned.Ino {
			return true
		}
	}
	return false
}

// HasInterface reports whether the pod's namespace has a network interface of that name.
func HasInterface(uuid, name string) (bool, error) {
	var has bool
	err := In(Path(uuid), func() error {
		_, err := interfaceIoctl(name, unix.SIOCGIFINDEX, nil)
		has = err == nil
		if err == unix.ENODEV {
			err = nil
		}
		return err
	})
	return has, err
}

// In runs f in the network namespace that is pinned at path, on a thread of its own.
func In(path string, f func() error) error {
	ns, err := os.Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	err = onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return f()
	})
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", path, err)
	}
	return nil
}

// onThread runs f on an operating system thread of its own, which f may take to another network
// namespace. The thread goes back to Go's scheduler only if it comes home; otherwise it ends with
// the goroutine.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err == nil {
			err = f()
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
			home.Close()
		}
		done <- err
	}()
	return <-done
}

func loopbackUp() error {
	flags, err := interfaceIoctl("lo", unix.SIOCGIFFLAGS, nil)
	if err != nil {
		return err
	}
	_, err = interfaceIoctl("lo", unix.SIOCSIFFLAGS, func(req *unix.Ifreq) {
		req.SetUint16(flags.Uint16() | unix.IFF_UP)
	})
	return err
}

// interfaceIoctl is a netdevice(7) request to the namespace that the thread is in.
func interfaceIoctl(name string, request uint, fill func(*unix.Ifreq)) (*unix.Ifreq, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	if fill != nil {
		fill(req)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(socket)
	return req, unix.IoctlIfreq(socket, request, req)
}
