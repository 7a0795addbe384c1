package pid1

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
	"golang.org/x/sys/unix"
)

// againAfter is when a server that was killed is started again, and stopWait how long one may take
// to deliver what the app has said last.
const (
	againAfter = 100 * time.Millisecond
	stopWait   = 3 * time.Second
)

// server is rkt-attach, which serves an app that one can attach to. What it has open is kept, so
// that one that is killed can be started again without harm to the app.
type server struct {
	pid      int // 0 for none
	ready    bool
	stopping bool
	kept     []keptFile
	timer    *time.Timer
}

// keptFile is what it has open, by sd_pid_notify_with_fds(3).
type keptFile struct {
	name string
	fd   int
}

// hearServer takes what the app's server says by sd_notify(3).
func (a *process) hearServer() error {
	if len(a.Streams) == 0 {
		return nil
	}
	path := plan.ServerSocket(a.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	go func() {
		message, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*8))
		for {
			n, m, _, _, err := socket.ReadMsgUnix(message, rights)
			if err != nil {
				return
			}
			text, fds := string(message[:n]), passedFiles(rights[:m])
			a.of.events <- func() { a.serverSaid(text, fds) }
		}
	}()
	return nil
}

// passedFiles are the descriptors that came with a message.
func passedFiles(rights []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if some, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, some...)
		}
	}
	return fds
}

// serve starts the app's server, which has what an earlier one had open.
func (a *process) serve() error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(null)
	argv := append([]string{stage1.AttachFile, "--serve", a.Name}, a.Streams...)
	env, files := []string{"NOTIFY_SOCKET=" + plan.ServerSocket(a.Name)}, []uintptr{uintptr(null), uintptr(null), 2}
	var names []string
	for _, k := range a.server.kept {
		names, files = append(names, k.name), append(files, uintptr(k.fd))
	}
	if names != nil { // it is without $LISTEN_PID, which only the process itself knows
		env = append(env, "LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	a.server.pid, err = syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Dir: "/", Env: env, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true}})
	return err
}

// serverSaid keeps what the server wants to have kept, and starts the app once it is ready.
func (a *process) serverSaid(text string, fds []int) {
	words := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		words[name] = value
	}
	name := words["FDNAME"]
	switch {
	case words["FDSTORE"] == "1":
		for _, fd := range fds {
			a.server.kept = append(a.server.kept, keptFile{name, fd})
		}
		return
	case words["FDSTOREREMOVE"] == "1":
		kept := a.server.kept
		a.server.kept = nil
		for _, k := range kept {
			if k.name == name {
				unix.Close(k.fd)
			} else {
				a.server.kept = append(a.server.kept, k)
			}
		}
	case words["READY"] == "1" && !a.server.ready:
		a.server.ready = true
		a.begin()
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// serverEnded is what happens when the server has ended.
func (a *process) serverEnded() {
	a.server.pid = 0
	if a.server.timer != nil {
		a.server.timer.Stop()
	}
	switch {
	case a.server.stopping:
		a.finish()
	case !a.server.ready:
		tell(fmt.Errorf("app %q: rkt-attach has failed", a.Name))
		a.died = true
		a.finish()
	default:
		a.server.timer = a.of.after(againAfter, func() {
			if a.step < leaving && a.server.pid == 0 {
				tell(a.serve())
			}
		})
	}
}

// stopServer has the server deliver the rest of what the app has said, and end. It reports whether
// there is one.
func (a *process) stopServer() bool {
	if a.server.pid == 0 {
		return false
	}
	if !a.server.stopping {
		a.server.stopping = true
		pid := a.server.pid
		unix.Kill(pid, unix.SIGTERM)
		a.server.timer = a.of.after(stopWait, func() {
			if a.server.pid == pid {
				unix.Kill(pid, unix.SIGKILL)
			}
		})
	}
	return true
}

// openStreams opens those of the app's streams that its server has made, by the numbers of their
// descriptors, and reports whether standard input is the app's terminal.
func (a *process) openStreams() (opened map[int]int, isTerminal bool, err error) {
	opened = map[int]int{}
	for fd, name := range []string{stage1.StdinPipe, stage1.StdoutPipe, stage1.StderrPipe} {
		file, flags := filepath.Join(stage1.AttachDir, a.Name, name), unix.O_WRONLY
		switch stage1.Stream(a.Stream(name)) {
		case stage1.TTY:
			file, flags = filepath.Join(stage1.AttachDir, a.Name, stage1.TerminalLink), unix.O_RDWR|unix.O_NOCTTY
			isTerminal = isTerminal || fd == 0
		case stage1.Attached:
			if fd == 0 {
				flags = unix.O_RDONLY
			}
		default:
			continue
		}
		if opened[fd], err = unix.Open(file, flags|unix.O_CLOEXEC, 0); err != nil {
			delete(opened, fd)
			closeAll(opened)
			return nil, false, fmt.Errorf("%s: %w", name, err)
		}
	}
	return opened, isTerminal, nil
}

func closeAll(opened map[int]int) {
	for _, fd := range opened {
		unix.Close(fd)
	}
}
