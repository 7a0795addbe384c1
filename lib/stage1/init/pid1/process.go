package pid1

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/recorder"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
	"github.com/rkt-toolkit/rkt/lib/stage2/app"
	"golang.org/x/sys/unix"
)

// step is where an app is on its way. Each but the last has a process.
type step int

const (
	before  step = iota // its pre-start handler runs
	running             // it runs
	killing             // it has ended, and others of its processes have been killed
	after               // its post-stop handler runs
	leaving             // what serves its streams ends
	done
)

// process is an app.
type process struct {
	plan.App
	of     *pod
	step   step
	pid    int // of the app, or its handler; 0 for none
	ready  bool
	stops  bool            // it is asked to stop
	status unix.WaitStatus // with which the app, or its pre-start handler, has ended
	died   bool            // before it could be started: it has no status of its own
	unrun  bool            // it was asked to stop before anything of it was started
	starve bool            // the kernel has killed a process of it for lack of memory
	timer  *time.Timer
	check  check
	server server
}

// group is the directory of the app's cgroup.
func (a *process) group() string { return groups + AppGroup(a.Name) }

// start starts the app, and what is to run before it.
func (a *process) start() {
	if a.stops {
		a.unrun = true
		a.finish()
		return
	}
	if len(a.Streams) == 0 || a.server.ready { // from the first time
		a.begin()
		return
	}
	if err := a.serve(); err != nil {
		tell(fmt.Errorf("app %q: rkt-attach: %w", a.Name, err))
		a.died = true
		a.finish()
	}
}

// begin starts what is to run first, when what serves the app is ready.
func (a *process) begin() {
	if a.stops {
		a.unrun = true
		a.finish()
		return
	}
	if a.PreStart {
		a.step = before
		a.launch(stage1.PreStart)
		return
	}
	a.run()
}

// run starts the app itself.
func (a *process) run() {
	a.step = running
	if !a.launch("") {
		return
	}
	go func() {
		if app.Executed(a.Name) != nil { // its end tells
			return
		}
		a.of.events <- func() {
			if a.Notify {
				return
			}
			if !a.readyByHealth() && !a.ready {
				a.of.appReady(a)
			}
			a.watch()
		}
	}()
}

// launch starts rkt-stage2 for the app or a handler of it, in the app's cgroup, and reports whether
// it has.
func (a *process) launch(handler string) bool {
	argv := []string{stage1.Stage2, "app", a.Name}
	if handler != "" {
		argv = append(argv, handler)
	}
	purpose := forHandler
	if handler == "" {
		purpose = forApp
	}
	pid, err := a.fork(argv, purpose)
	if err != nil {
		tell(fmt.Errorf("app %q: %w", a.Name, err))
		a.died = true
		a.next(0)
		return false
	}
	a.pid = pid
	return true
}

// purpose is what a process is started for.
type purpose int

const (
	forApp purpose = iota
	forHandler
	forCheck
)

// fork starts a program in the app's cgroup, or that of its checks, with the app's streams, and for
// the app itself with its sockets.
func (a *process) fork(argv []string, what purpose) (int, error) {
	dir := a.group()
	if what == forCheck {
		dir = a.checkGroup()
	}
	group, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("cgroup: %w", err)
	}
	defer unix.Close(group)
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(null)
	output := null
	if what == forCheck {
		output = a.check.printer
	} else if a.Output {
		if output, err = unix.Open(a.path(streams.Output), unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
			return 0, fmt.Errorf("output: %w", err)
		}
		defer unix.Close(output)
	}
	sys := &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: group}
	files := a.standard(null, output)
	if what == forCheck {
		files = []uintptr{uintptr(null), uintptr(output), uintptr(output)}
	} else {
		opened, isTerminal, err := a.openStreams()
		if err != nil {
			return 0, err
		}
		defer closeAll(opened)
		for fd, from := range opened {
			files[fd] = uintptr(from)
		}
		sys.Setctty = isTerminal
	}
	if what == forApp && a.of.plan.Terminal {
		console := uintptr(a.of.console)
		files = []uintptr{console, console, console}
		if a.of.plan.Stdin {
			files[0] = uintptr(control + 1 + a.of.plan.Sockets)
		} else {
			sys.Setctty = true
		}
	}
	var env []string
	if what == forApp {
		var sockets []uintptr
		env, sockets = a.activation()
		files = append(files, sockets...)
	}
	return syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Dir: "/", Env: env, Files: files, Sys: sys})
}

// standard are standard input, output and error.
func (a *process) standard(null, output int) []uintptr {
	files := []uintptr{uintptr(null), uintptr(output), uintptr(output)}
	if a.NoStdout {
		files[1] = uintptr(null)
	}
	if a.NoStderr {
		files[2] = uintptr(null)
	}
	return files
}

// activation are the app's sockets, and what tells of them. rkt-stage2 adds $LISTEN_PID, which only
// the process itself knows.
func (a *process) activation() (env []string, sockets []uintptr) {
	var names []string
	for _, s := range a.Sockets {
		names = append(names, s.Name)
		sockets = append(sockets, uintptr(control+1+s.Index))
	}
	if names == nil {
		return []string{}, nil
	}
	return []string{"LISTEN_FDS=" + strconv.Itoa(len(names)), "LISTEN_FDNAMES=" + strings.Join(names, ":")}, sockets
}

// ended is what happens when the app's process, or its handler's, has ended.
func (a *process) ended(status unix.WaitStatus) {
	a.pid = 0
	if a.step == running {
		a.unwatch()
	}
	a.next(status)
}

// next goes one step on, from one that has ended with a status.
func (a *process) next(status unix.WaitStatus) {
	switch a.step {
	case before:
		if !a.died && !a.stops && status == 0 {
			a.run()
			return
		}
		a.status = status
		a.sweep()
	case running:
		a.status = status
		a.sweep()
	case killing:
		a.finish()
	case after:
		a.sweep()
	}
}

// sweep kills what the app, or its handler, has left.
func (a *process) sweep() {
	was := a.step
	a.step = killing
	if left := a.kill(); left > 0 {
		a.of.after(time.Millisecond, func() { a.step = was; a.sweep() })
		return
	}
	if was != after && a.PostStop && !a.died {
		if a.timer != nil {
			a.timer.Stop()
		}
		a.step = after
		a.launch(stage1.PostStop)
		return
	}
	a.finish()
}

// kill kills all processes in the app's cgroup, and reports how many there are.
func (a *process) kill() (left int) { return killGroup(a.group()) }

// killGroup kills all processes in a cgroup, and reports how many there are.
func killGroup(dir string) (left int) {
	text, err := os.ReadFile(dir + "/cgroup.procs")
	if err != nil {
		return 0
	}
	for field := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
			unix.Kill(pid, unix.SIGKILL)
			left++
		}
	}
	return left
}

// stop asks the app to stop.
func (a *process) stop() {
	if a.stops || a.step == done {
		return
	}
	a.stops = true
	a.unwatch()
	if a.step > running || a.pid == 0 {
		return
	}
	unix.Kill(a.pid, unix.Signal(a.StopSignal))
	if a.of.plan.Terminal || a.Stream("stdin") == string(stage1.TTY) { // only that ends an interactive shell
		unix.Kill(a.pid, unix.SIGHUP)
	}
	if a.StopTimeout > 0 {
		a.timer = a.of.after(a.StopTimeout, func() {
			if a.step <= running {
				a.kill()
			}
		})
	}
}

// finish records how the app has ended, when all that it has said is where it belongs.
func (a *process) finish() {
	if a.startAnew() {
		return
	}
	if a.step = leaving; a.stopServer() {
		return
	}
	a.step = done
	if a.timer != nil {
		a.timer.Stop()
	}
	a.starved()
	err := recorder.EndedWith(a.Name, a.end())
	if app, ok := errors.AsType[recorder.Failed](err); ok {
		if a.of.failed == 0 {
			a.of.failed = app.Status
		}
		a.of.end()
		return
	}
	tell(err)
	if !a.ready {
		a.of.appReady(a)
	}
}

// end is how the app has ended, in the words of systemd.
func (a *process) end() recorder.End {
	e := a.exit()
	if a.starve {
		e.Result = "oom-kill"
	}
	return e
}

// exit is end as far as it follows from the status of the app's process.
func (a *process) exit() recorder.End {
	switch {
	case a.unrun:
		return recorder.End{Result: "success"}
	case a.died:
		return recorder.End{Result: "resources"}
	case a.Notify && !a.ready && !a.stops && a.status == 0:
		return recorder.End{Result: "protocol", Code: "exited", Status: "0"}
	case a.status.Exited() && a.status.ExitStatus() == 0:
		return recorder.End{Result: "success", Code: "exited", Status: "0"}
	case a.status.Exited():
		return recorder.End{Result: "exit-code", Code: "exited", Status: strconv.Itoa(a.status.ExitStatus())}
	}
	signal := a.status.Signal()
	e := recorder.End{Result: "signal", Code: "killed", Status: strings.TrimPrefix(unix.SignalName(signal), "SIG")}
	if signal >= 34 {
		e.Status = "RTMIN+" + strconv.Itoa(int(signal)-34)
	}
	if a.status.CoreDump() {
		e.Result, e.Code = "core-dump", "dumped"
	}
	switch signal {
	case unix.SIGHUP, unix.SIGINT, unix.SIGPIPE, unix.SIGTERM, syscall.Signal(a.StopSignal):
		e.Result = "success"
	}
	return e
}
