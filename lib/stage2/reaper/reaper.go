// Package reaper is a small init: PID 1 of an app's PID namespace, for apps that do not do its work
// themselves.
package reaper

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/rkt-toolkit/rkt/lib/host/activation"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Run starts the program file with the arguments argv, its name first. It passes signals on to it
// and reaps every process that has lost its parent. It returns the program's exit status when that
// has exited, 128+n if by signal n. What runs besides dies with this process.
func Run(file string, argv []string) (status int, err error) {
	unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&[]byte("rkt-init\x00")[0])), 0, 0, 0)
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true}}
	passed := activation.Names(os.Getenv, os.Getpid())
	for i := range passed {
		attr.Files = append(attr.Files, uintptr(activation.First+i))
	}
	if term.IsTerminal(0) {
		attr.Sys.Foreground = true // which Ctty 0 is for
	}
	if len(passed) > 0 { // $LISTEN_PID is to be the program's, which only that can say
		file, argv = "/proc/self/exe", append([]string{"rkt-stage2", "told", file}, argv...)
	}
	program, err := syscall.ForkExec(file, argv, attr)
	if err != nil {
		return 203, fmt.Errorf("%s: %w", file, err)
	}
	go func() {
		for s := range signals {
			if s != unix.SIGCHLD && s != unix.SIGURG { // of Go's runtime
				unix.Kill(program, s.(syscall.Signal))
			}
		}
	}()
	for {
		var ended unix.WaitStatus
		pid, err := unix.Wait4(-1, &ended, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 254, err
		case pid == program && ended.Signaled():
			return 128 + int(ended.Signal()), nil
		case pid == program && ended.Exited():
			return ended.ExitStatus(), nil
		}
	}
}

// Told becomes the program file with the arguments argv, and says to it what was said to its parent
// (sd_listen_fds(3)). It returns only on failure.
func Told(file string, argv []string) error {
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	return fmt.Errorf("%s: %w", file, syscall.Exec(file, argv, os.Environ()))
}
