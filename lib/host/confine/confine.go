// Package confine gives a process the limits of an app and executes the app's program in it.
//
// Everything is done to the calling thread, which the caller has locked: in Linux credentials,
// namespaces and seccomp filters are a thread's, and the one that executes a program passes them on
// to it.
package confine

import (
	"fmt"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Process is what a process of an app is and may do at most.
type Process struct {
	UID, GID        uint32
	Groups          []uint32 // supplementary
	Bounding        uint64   // capabilities that it may have at most, a bit each
	NoNewPrivileges bool
	Filters         [][]unix.SockFilter // seccomp filters in the order of loading
	Limits          map[int]unix.Rlimit // by the number of the resource
}

// Apply gives the calling thread, and no other, the resource limits and user, and takes all
// capabilities from it that the app can't have. If there are filters to load, it keeps
// CAP_SYS_ADMIN until it executes the program; who may look into it till then may look into the
// pod's PID 1, which has that too.
func (p *Process) Apply() error {
	if err := setLimits(p.Limits); err != nil {
		return err
	}
	for c := 0; c < 64; c++ {
		if p.Bounding&(1<<c) == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && err != unix.EINVAL {
				// unknown to the kernel
				return fmt.Errorf("capability %d: %w", c, err)
			}
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	var groups *uint32
	if len(p.Groups) > 0 {
		groups = &p.Groups[0]
	}
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, uintptr(len(p.Groups)), uintptr(unsafe.Pointer(groups))},
		{unix.SYS_SETRESGID, uintptr(p.GID), uintptr(p.GID), uintptr(p.GID)},
		{unix.SYS_SETRESUID, uintptr(p.UID), uintptr(p.UID), uintptr(p.UID)},
	} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			return fmt.Errorf("user %d, group %d: %w", p.UID, p.GID, errno)
		}
	}
	return p.dropCapabilities()
}

func (p *Process) dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	keep := uint64(0)
	if p.UID == 0 {
		keep = p.Bounding // with no_new_privs the program gets no more than that
	}
	if len(p.Filters) > 0 && !p.NoNewPrivileges {
		keep |= 1 << unix.CAP_SYS_ADMIN
	}
	for i := range data {
		data[i].Permitted &= uint32(keep >> (32 * i))
		data[i].Effective = data[i].Permitted
		data[i].Inheritable = 0 // they would survive the exec whatever the bounding set is
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if p.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("no new privileges: %w", err)
		}
	}
	return nil
}

func setLimits(limits map[int]unix.Rlimit) error {
	for resource, limit := range limits {
		if err := SetLimit(resource, limit); err != nil {
			return fmt.Errorf("resource limits: %w", err)
		}
	}
	return nil
}

// SetLimit gives the process a limit, but none above its own, which may need a capability.
func SetLimit(resource int, limit unix.Rlimit) error {
	err := unix.Setrlimit(resource, &limit)
	if err != unix.EPERM {
		return err
	}
	var own unix.Rlimit
	if err := unix.Getrlimit(resource, &own); err != nil {
		return err
	}
	limit.Max = min(limit.Max, own.Max)
	limit.Cur = min(limit.Cur, limit.Max)
	return unix.Setrlimit(resource, &limit)
}

// LookPath finds a program as execvp(3) does, in the root that the thread has, with the $PATH of
// the environment env. It is an error if there is none that the thread may execute; a name with a
// slash is taken as it is.
func LookPath(name string, env [][]byte) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, v := range env {
		dirs, ok := strings.CutPrefix(string(v), "PATH=")
		if !ok {
			continue
		}
		for dir := range strings.SplitSeq(dirs, ":") {
			file := filepath.Join("/", dir, name)
			if unix.Access(file, unix.X_OK) == nil {
				return file, nil
			}
		}
	}
	return "", fmt.Errorf("%s: not found in the app's $PATH", name)
}
