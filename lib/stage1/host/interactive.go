package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/process"
	"github.com/rkt-toolkit/rkt/lib/host/program"
	"github.com/rkt-toolkit/rkt/lib/host/selinux"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
	"golang.org/x/sys/unix"
)

// stdin is the pipe, in the pod's root, that an interactive app reads where rkt was given something
// else than a terminal.
const stdin = "/rkt/stdin"

// giveTerminal has the pod's one app read from and write to the terminal. An interactive shell ends
// by SIGHUP only.
func (s *starting) giveTerminal() error {
	p, a := s.Pod, s.Apps[0]
	if _, err := os.Lstat(unitPath(p, AttachUnit(a.Name))); err == nil {
		return fmt.Errorf("pod %s: app %q: --interactive gives it the terminal, and --stdin, --stdout or --stderr "+
			"says otherwise; give the one or the others", p.UUID, a.Name)
	}
	input := "tty"
	if !place.IsTerminal(s.Stdin) {
		input = "file:" + stdin
		fifo := p.Path(poddir.RootDir + stdin)
		if err := os.Remove(fifo); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a start that was killed
			return err
		}
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			return &fs.PathError{Op: "mkfifo", Path: fifo, Err: err}
		}
		if s.Label != nil {
			if err := selinux.SetFile(fifo, *s.Label); err != nil {
				return fmt.Errorf("pod %s: %w", p.UUID, err)
			}
		}
	}
	u := section("Service", "StandardInput="+input, "StandardOutput=tty", "StandardError=tty", "TTYPath=/dev/console",
		"SendSIGHUP=yes")
	if a.Prepared == nil {
		u.add("Service", formerInteractive(a.Final.Environment)...)
	}
	return u.dropIn(p, a.Name+".service", "interactive.conf")
}

// formerInteractive are further lines for an app of a pod that an older rkt prepared.
func formerInteractive(env []string) []string {
	term := ""
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "TERM="); ok {
			term = value
		}
	}
	lines := []string{"BindPaths=", "BindPaths=/proc /sys /dev/console /dev/pts /dev/shm /dev/mqueue",
		"UnsetEnvironment=", "UnsetEnvironment=INVOCATION_ID JOURNAL_STREAM SYSTEMD_EXEC_PID"}
	if term != "" && !strings.ContainsAny(term, "\"'\\%$\n \t") {
		lines = append(lines, "Environment=TERM="+term)
	}
	return lines
}

// feed has an interactive app read what standard input holds, up to its end. systemd-nspawn would
// put it into the terminal that it makes for the pod, and a terminal has no end. So a cat(1) of the
// host's does it, which dies with systemd-nspawn: the calling thread is the one that execs.
func feed(p *poddir.Pod, in *os.File) error {
	shell, err := program.Look("sh")
	if err != nil {
		return err
	}
	copier, err := program.Look("cat")
	if err != nil {
		return err
	}
	// which waits for the app to open the pipe
	cat := exec.Command(shell, "-c", `exec "$1" >"$0"`, p.Path(poddir.RootDir+stdin), copier)
	cat.Stdin = in
	cat.SysProcAttr = &unix.SysProcAttr{
		Pdeathsig:  unix.SIGKILL,
		Cloneflags: unix.CLONE_NEWNS, // this process leaves the host's tree, where the shell still has to find cat
	}
	if err := cat.Start(); err != nil {
		return err
	}
	// out of the way: a cgroup with controllers has no process of its own, and systemd-nspawn makes
	// this one below it
	if place.KeepUnit() {
		dirs, err := cgroup.Below("supervisor")
		if err == nil {
			err = cgroup.Make(dirs...)
		}
		if err == nil {
			err = cgroup.Enter(dirs, cat.Process.Pid)
		}
		if err != nil {
			return err
		}
	}
	return process.NoInput() // systemd-nspawn must not read any of it
}
