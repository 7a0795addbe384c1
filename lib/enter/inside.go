package enter

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The process that becomes the command is of the same program, with this argument.
const (
	self       = "/proc/self/exe"
	insideName = "rkt-enter-inside"
)

// Descriptors of that process besides 0 to 2: the job as JSON, the app's process, its root, and the files cgroup.procs of its groups.
const (
	jobFD = 3 + iota
	processFD
	rootFD
	groupsFD
)

// job is a command with what it shares with the app.
type job struct {
	Command         Command
	Argv, Env       [][]byte // the command's, which need not be what JSON takes for text
	Bounding        uint64   // capabilities that it may have at most, a bit each
	NoNewPrivileges bool
	Filters         [][]unix.SockFilter // of system calls, the oldest first
	Limits          map[int]unix.Rlimit
	Groups          int  // how many control groups
	Shifted         bool // in the pod's own user namespace, and network namespace, already
}

// Inside tells whether a process with these arguments is to become a command in a pod.
func Inside(args []string) bool {
	return len(args) == 2 && strings.HasPrefix(args[0], "/proc/self/") && args[1] == insideName
}

// Become turns the process, which is in the pod's PID namespace already, into the command. It returns only on failure.
func Become() error {
	runtime.LockOSThread()
	var j job
	if err := json.NewDecoder(os.NewFile(jobFD, "job")).Decode(&j); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	for i := range j.Groups {
		if _, err := unix.Write(groupsFD+i, []byte("0")); err != nil {
			return fmt.Errorf("app %q: control group: %w", j.Command.App, err)
		}
	}
	if err := join(j.Shifted); err != nil {
		return fmt.Errorf("app %q: %w", j.Command.App, err)
	}
	c := j.Command
	if c.Dir == "" || unix.Chdir(c.Dir) != nil {
		if err := unix.Chdir("/"); err != nil {
			return fmt.Errorf("app %q: %w", c.App, err)
		}
	}
	program, err := lookPath(string(j.Argv[0]), j.Env)
	if err != nil {
		return fmt.Errorf("app %q: %w", c.App, err)
	}
	return fmt.Errorf("app %q: %s: %w", c.App, j.Argv[0], j.exec(program))
}

// join moves the calling thread into the app's namespaces and root directory.
func join(shifted bool) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // a mount namespace takes a thread with a root directory of its own
		return err
	}
	flags := unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP
	if !shifted {
		flags |= unix.CLONE_NEWNET
	}
	if err := unix.Setns(processFD, flags); err != nil {
		return fmt.Errorf("namespaces: %w", err)
	}
	if err := unix.Fchdir(rootFD); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	return nil
}

// exec gives the calling thread the app's limits and executes the program. From the first filter on, the thread may only do what systemd
// did between its filters and the app: nothing but the next filter and execve(2).
func (j *job) exec(program string) error {
	path, err := unix.BytePtrFromString(program)
	if err != nil {
		return err
	}
	argv, env := pointers(j.Argv), pointers(j.Env)
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return err
	}
	if err := j.confine(); err != nil {
		return err
	}
	for _, filter := range j.Filters {
		program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
		if errno != 0 {
			return fmt.Errorf("filter of system calls: %w", errno)
		}
	}
	_, _, errno := unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])))
	return errno
}

// pointers are strings as execve(2) wants them.
func pointers(list [][]byte) []*byte {
	var p []*byte
	for _, s := range list {
		p = append(p, &append(s, 0)[0])
	}
	return append(p, nil)
}

// confine gives the calling thread, and no other, the app's resource limits and user, and takes all capabilities from it that the app
// can't have. It keeps those in effect that it needs for filters until it executes the program.
func (j *job) confine() error {
	if err := setLimits(j.Limits); err != nil {
		return err
	}
	for c := 0; c < 64; c++ {
		if j.Bounding&(1<<c) == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && err != unix.EINVAL { // unknown to the kernel
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
	if len(j.Command.Groups) > 0 {
		groups = &j.Command.Groups[0]
	}
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, uintptr(len(j.Command.Groups)), uintptr(unsafe.Pointer(groups))},
		{unix.SYS_SETRESGID, uintptr(j.Command.GID), uintptr(j.Command.GID), uintptr(j.Command.GID)},
		{unix.SYS_SETRESUID, uintptr(j.Command.UID), uintptr(j.Command.UID), uintptr(j.Command.UID)},
	} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			return fmt.Errorf("user %d, group %d: %w", j.Command.UID, j.Command.GID, errno)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for i := range data {
		data[i].Effective = data[i].Permitted
		data[i].Inheritable = 0 // they would survive the exec whatever the bounding set is
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if j.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("no new privileges: %w", err)
		}
	}
	return nil
}

// lookPath finds a program as execvp(3) does, in the root and with the PATH that the command will have.
func lookPath(name string, env [][]byte) (string, error) {
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
