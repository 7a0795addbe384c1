// Package inotify keeps pods from starting that the host has no inotify instances for (inotify(7)).
// A pod's systemd takes some before it does anything else, and without them ends with a message
// that names no cause.
//
// Instances belong to a user, and those of pods are root's, also if a pod has its own user
// namespace: root made that namespace (user_namespaces(7)).
package inotify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/process"
	"golang.org/x/sys/unix"
)

// PerPod is the number of instances that a pod's systemd takes: one for its cgroups, one for the
// time zone, one for the mount table. systemd 252 to 262 take as many, and have no setting that
// saves one of them.
const PerPod = 3

// enough is what units/sysctl.conf sets the limit to.
const enough = 8192

// Dir has a symbolic link for each pod that was promised instances and may not have taken them yet:
// its name is the pod's UUID, and it leads to PID.STARTTIME of the process that becomes the pod.
const Dir = "/run/rkt/starting"

// Promise returns an error, which names the limit, if root has too few instances left for the pod
// uuid and for all pods that are starting at the moment. Else the calling process, which is to
// become the pod, is promised its share.
func Promise(uuid string) error { return promise(Dir, uuid) }

// Forget removes what Promise has left of a pod that has exited.
func Forget(uuid string) error {
	if err := os.Remove(filepath.Join(Dir, uuid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func promise(dir, uuid string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := durable.Lock(dir, -1)
	if err != nil {
		return err
	}
	defer lock.Close()
	link := filepath.Join(dir, uuid)
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a start that failed
		return err
	}
	others, err := promised(dir)
	if err != nil {
		return err
	}
	left, err := left(others + PerPod)
	if err != nil {
		return fmt.Errorf("inotify instance: %w", err)
	}
	if !left {
		return tooFew()
	}
	return os.Symlink(process.ID(os.Getpid()), link)
}

// promised counts the instances that starting pods have not taken yet, and removes the links of
// other pods.
func promised(dir string) (count int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		link := filepath.Join(dir, entry.Name())
		of, err := os.Readlink(link)
		if errors.Is(err, fs.ErrNotExist) { // rkt-gc takes no lock
			continue
		}
		if err != nil {
			return 0, err
		}
		number, _, _ := strings.Cut(of, ".")
		pid, err := strconv.Atoi(number)
		if err == nil && of == process.ID(pid) {
			init, up := process.Init(pid)
			if !up {
				count += max(PerPod-held(init), 0)
				continue
			}
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	return count, nil
}

// held counts the instances of a process.
func held(pid int) (count int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // none of a process that is gone
	for _, file := range files {
		if of, err := os.Readlink(file); err == nil && of == "anon_inode:inotify" {
			count++
		}
	}
	return count
}

// left reports whether so many instances can be made, by making them.
func left(count int) (bool, error) {
	var made []int
	defer func() {
		for _, fd := range made {
			unix.Close(fd)
		}
	}()
	for range count {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if errors.Is(err, unix.EMFILE) {
			return noFileLeft(), nil
		}
		if err != nil {
			return false, err
		}
		made = append(made, fd)
	}
	return true, nil
}

// noFileLeft reports whether it is the process that may not open another file, for which the kernel
// has the same error as for a user who has all instances.
func noFileLeft() bool {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return errors.Is(err, unix.EMFILE)
}

// tooFew names the limit that is in the way: the host's, or in a container the one of its user
// namespace.
func tooFew() error {
	name, limit := "fs.inotify.max_user_instances", sysctl("fs/inotify/max_user_instances")
	if own := sysctl("user/max_inotify_instances"); own > 0 && own < limit {
		name, limit = "user.max_inotify_instances", own
	}
	return fmt.Errorf("too few inotify instances are left for it: it takes %d, and root may have %d altogether; "+
		"raise that limit: sysctl -w %s=%d", PerPod, limit, name, max(enough, 2*limit))
}

// sysctl is a number below /proc/sys, 0 if there is none.
func sysctl(path string) int {
	text, _ := os.ReadFile("/proc/sys/" + path)
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}
