// Package enter runs a command inside a running pod, in the namespaces and the root of one of its apps.
package enter

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/rkt-toolkit/rkt/lib/pod"
	"github.com/rkt-toolkit/rkt/lib/running"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// Command is what to run in which app.
type Command struct {
	App  string   // may be "" in a pod of one app
	Argv []string // the program by path, or by name in the PATH of Env
	Env  []string
	Dir  string // working directory in the app; "" is /
}

// Run runs a command in the app of a running pod and returns its exit status; 128+n if it died of signal n. The command gets the
// app's capabilities at most. The process must do nothing else afterwards: the calling thread stays in the pod.
func Run(p *pod.Pod, c Command) (status int, err error) {
	leader, err := running.Leader(p)
	if err != nil {
		return 0, err
	}
	target := running.AppProcess(leader, c.App, stage1.AppRoot(c.App))
	for end := time.Now().Add(2 * time.Second); target == 0; time.Sleep(10 * time.Millisecond) { // it may be starting
		if _, ended := p.AppStatus(c.App); ended || time.Now().After(end) {
			return 0, fmt.Errorf("pod %s: app %q does not run", p.UUID, c.App)
		}
		target = running.AppProcess(leader, c.App, stage1.AppRoot(c.App))
	}
	runtime.LockOSThread()
	if err := join(leader, target); err != nil {
		return 0, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	dir := c.Dir
	if dir == "" || unix.Chdir(dir) != nil {
		dir = "/"
	}
	program, err := lookPath(c.Argv[0], c.Env)
	if err != nil {
		return 0, fmt.Errorf("app %q: %w", c.App, err)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	child, err := os.StartProcess(program, c.Argv, &os.ProcAttr{Dir: dir, Env: c.Env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return 0, fmt.Errorf("app %q: %w", c.App, err)
	}
	go func() {
		for s := range signals {
			if s != unix.SIGINT && s != unix.SIGQUIT { // those come from the terminal, which sends them to the command too
				child.Signal(s)
			}
		}
	}()
	state, err := child.Wait()
	if err != nil {
		return 0, err
	}
	if ws := state.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return state.ExitCode(), nil
}

// join moves the calling thread into the target's namespaces and root directory, and leaves it with the capabilities that the target may
// have at most. Children are in the pod's PID namespace; the thread itself is not.
func join(leader, target int) error {
	pidfd, err := unix.PidfdOpen(target, 0)
	if err != nil {
		return fmt.Errorf("process %d: %w", target, err)
	}
	defer unix.Close(pidfd)
	if !running.SamePIDNamespace(leader, target) { // the descriptor holds the process; its number may be another's now
		return errors.New("the app has just ended")
	}
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", target), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("process %d: %w", target, err)
	}
	defer unix.Close(root)
	bounding, err := running.BoundingSet(target)
	if err != nil {
		return err
	}
	flags := unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP
	if !running.SameNamespace(os.Getpid(), target, "user") {
		flags |= unix.CLONE_NEWUSER
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // a mount namespace takes a thread with a root directory of its own
		return err
	}
	if err := unix.Setns(pidfd, flags); err != nil {
		return fmt.Errorf("namespaces of process %d: %w", target, err)
	}
	if err := unix.Fchdir(root); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("root of process %d: %w", target, err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	for c := 0; c < 64; c++ {
		if bounding&(1<<c) == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && err != unix.EINVAL { // unknown to the kernel
				return fmt.Errorf("capability %d: %w", c, err)
			}
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0 // they would survive the exec whatever the bounding set is
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}

// Detach gives the process a copy of its own program that nobody can write to, and executes it, unless it runs from one already. A
// process in a pod is visible to the pod's apps, and the file of its program through /proc/PID/exe (CVE-2019-5736). No descriptor but
// 0 to 2 goes along, now or into the pod.
func Detach(argv, env []string) error {
	const name = "rkt-enter"
	if link, err := os.Readlink("/proc/self/exe"); err == nil && strings.HasPrefix(link, "/memfd:"+name) {
		return unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	copied := os.NewFile(uintptr(fd), name)
	if _, err := copied.Write(program); err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	if _, err := unix.FcntlInt(copied.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	return fmt.Errorf("memfd: %w", unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), argv, env))
}

// lookPath finds a program as execvp(3) does, in the root and with the PATH that the command will have.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, v := range env {
		dirs, ok := strings.CutPrefix(v, "PATH=")
		if !ok {
			continue
		}
		for dir := range strings.SplitSeq(dirs, ":") {
			file := path.Join("/", dir, name)
			if unix.Access(file, unix.X_OK) == nil {
				return file, nil
			}
		}
	}
	return "", fmt.Errorf("%s: not found in the app's $PATH", name)
}
