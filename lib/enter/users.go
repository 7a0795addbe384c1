package enter

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// users is the user namespace of a pod that has one of its own.
type users struct {
	base  uint32     // the user of the host that is the pod's root
	files []*os.File // the namespace, and this program
	tool  string     // path of nsenter(1)
}

// usersOf opens the user namespace that the pod's PID 1 is in; nil if it is the calling process's own.
func usersOf(leader int) (*users, error) {
	var own, its unix.Stat_t
	name := fmt.Sprintf("/proc/%d/ns/user", leader)
	if err := errors.Join(unix.Stat("/proc/self/ns/user", &own), unix.Stat(name, &its)); err != nil || own.Ino == its.Ino {
		return nil, err
	}
	u := &users{}
	var err error
	if u.tool, err = exec.LookPath("nsenter"); err != nil {
		return nil, err
	}
	var zero uint32
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", leader))
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Sscan(string(text), &zero, &u.base); err != nil || zero != 0 {
		return nil, fmt.Errorf("it maps users in a way of its own: %q", text)
	}
	for _, name := range []string{name, self} {
		f, err := os.Open(name)
		if err != nil {
			closeAll(u.files)
			return nil, err
		}
		u.files = append(u.files, f)
	}
	return u, nil
}

// onHost is what the host calls a user of the pod.
func (u *users) onHost(uid uint32) uint32 {
	if u == nil {
		return uid
	}
	return u.base + uid
}

// through starts a command, which is of this program, by nsenter(1). A program in Go can't join a user namespace: only a process of a
// single thread can.
func (u *users) through(cmd *exec.Cmd) {
	first := 3 + len(cmd.ExtraFiles)
	cmd.ExtraFiles = append(cmd.ExtraFiles, u.files...)
	cmd.Path = u.tool
	cmd.Args = []string{"nsenter", fmt.Sprintf("--user=/proc/self/fd/%d", first), "--", fmt.Sprintf("/proc/self/fd/%d", first+1), insideName}
}
