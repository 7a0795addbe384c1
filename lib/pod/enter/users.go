package enter

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/program"
	"github.com/rkt-toolkit/rkt/lib/host/userns"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

// users is the user namespace of a pod that has one of its own.
type users struct {
	userns.Range
	files []*os.File // the namespace, and this program
	tool  string     // path of nsenter(1)
}

// errForeignUsers is of a pod whose PID 1 has left the user namespace that the pod was given.
var errForeignUsers = errors.New("its PID 1 is in a user namespace that is not the pod's")

// usersOf opens the user namespace of a pod, nil if it has the caller's. Which it is the pod's file
// says; that PID 1 is in it, the kernel: a namespace that a process of the pod made has another
// parent.
func usersOf(p *poddir.Pod, leader int) (*users, error) {
	ns, err := openNamespace(leader, "user")
	if err != nil {
		return nil, err
	}
	text, err := p.ReadFile(poddir.UsersFile)
	if errors.Is(err, fs.ErrNotExist) {
		defer ns.Close()
		if own, err := isOwn(ns, "user"); err != nil || !own {
			return nil, errors.Join(errForeignUsers, err)
		}
		return nil, nil
	}
	u := &users{files: []*os.File{ns}}
	if err == nil {
		if u.Range, err = userns.Parse(string(text)); err != nil {
			err = fmt.Errorf("%s: %w", p.Path(poddir.UsersFile), err)
		}
	}
	if err == nil {
		err = u.check(leader)
	}
	if err == nil {
		u.tool, err = program.Look("nsenter")
	}
	var own *os.File
	if err == nil {
		own, err = os.Open(self)
	}
	if err != nil {
		ns.Close()
		return nil, err
	}
	u.files = append(u.files, own)
	return u, nil
}

// check compares the namespace that PID 1 is in with the pod's.
func (u *users) check(leader int) error {
	parent, err := unix.IoctlRetInt(int(u.files[0].Fd()), unix.NS_GET_PARENT)
	if err == unix.EPERM { // it is the caller's own, or out of reach
		return errForeignUsers
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(parent), "parent")
	defer f.Close()
	if own, err := isOwn(f, "user"); err != nil || !own {
		return errors.Join(errForeignUsers, err)
	}
	want := fmt.Sprintf("0 %d %d", u.Base, userns.Count)
	for _, name := range []string{"uid_map", "gid_map"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", leader, name))
		if err != nil {
			return err
		}
		if strings.Join(strings.Fields(string(text)), " ") != want {
			return errForeignUsers
		}
	}
	return nil
}

// onHost is what the host calls a user of the pod.
func (u *users) onHost(uid uint32) uint32 {
	if u == nil {
		return uid
	}
	return u.Base + uid
}

// through starts a command, which is of this program, by nsenter(1). A program in Go can't join a
// user namespace: only a process of a single thread can.
func (u *users) through(cmd *exec.Cmd) {
	first := 3 + len(cmd.ExtraFiles)
	cmd.ExtraFiles = append(cmd.ExtraFiles, u.files...)
	cmd.Path = u.tool
	cmd.Args = []string{"nsenter", fmt.Sprintf("--user=/proc/self/fd/%d", first), "--", fmt.Sprintf("/proc/self/fd/%d",
		first+1), insideName}
}
