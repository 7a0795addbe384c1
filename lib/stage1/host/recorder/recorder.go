// Package recorder records in a pod how its apps end, and decides with which status the pod does.
//
// The pod's systemd starts Ended in a unit of its own for each app that has ended. The exit status
// of that unit ends the pod, so that a recorder that can't run at all is a failure of the pod, too.
package recorder

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
	"golang.org/x/sys/unix"
)

// Files in the pod's root. StatusDir has a file for each app that has ended; FailedFile has the
// status of the first app that failed, AskedFile is there when the pod is asked to stop,
// StoppedFile when it has stopped in order then.
const (
	StatusDir   = "/rkt/status"
	FailedFile  = "/run/rkt/failed"
	AskedFile   = "/run/rkt/asked"
	StoppedFile = "/rkt/stopped"
)

// noStatus is the status of an app that failed without one of its own.
const noStatus = 255

// askedWait is how long after an app's death the request to stop may become known: a unit of the
// host's without KillMode=mixed sends SIGTERM to every process at once, and a host may be busy.
const askedWait = time.Second

// Failed is the error of an app that failed, and was the first one of the pod. The pod ends with
// its status.
type Failed struct{ Status int }

func (f Failed) Error() string { return "failed with status " + strconv.Itoa(f.Status) }

// Ended takes the name of an app, and from systemd's $MONITOR_… variables (systemd.exec(5)) how it
// has ended. It passes on what the app has printed and nobody has read yet, and writes the app's
// exit status to StatusDir, 128+n for death by signal n. If the app failed and no other one did
// before, the error is Failed. What else goes wrong makes no difference for the pod, and is told on
// standard error.
func Ended(args []string) error {
	if len(args) != 1 {
		return errors.New("not APP")
	}
	end := Monitored()
	if _, err := os.Lstat(AgainDir + "/" + args[0]); err == nil && end.Result == "watchdog" {
		return nil // systemd starts it anew, and up to release 253 calls that an end
	}
	return EndedWith(args[0], end)
}

// AgainDir has a file for each app that is started anew when it does not feed its watchdog, as
// package health has the pod's systemd do.
const AgainDir = "/run/rkt/again"

// Monitored is how the service has ended because of which systemd has started this one.
func Monitored() End {
	return End{os.Getenv("MONITOR_SERVICE_RESULT"), os.Getenv("MONITOR_EXIT_CODE"), os.Getenv("MONITOR_EXIT_STATUS")}
}

// EndedWith is Ended for a PID 1 that is no systemd, and says how the app has ended as systemd
// would.
func EndedWith(app string, e End) error {
	tell(streams.Rest(app))
	return podRoot("").ended(app, e)
}

func tell(err error) {
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
	}
}

// Asked notes that the pod is asked to stop.
func Asked([]string) error { return podRoot("").mark(AskedFile) }

// Stopped notes that the pod has stopped in order when it was asked to. If an app failed, the error
// is Failed.
func Stopped([]string) error { return podRoot("").stopped() }

// podRoot is the root directory of the pod's systemd; "" but in tests.
type podRoot string

func (r podRoot) mark(path string) error {
	if err := os.MkdirAll(filepath.Dir(string(r)+path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(string(r)+path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}

func (r podRoot) stopped() error {
	tell(r.mark(StoppedFile))
	text, err := os.ReadFile(string(r) + FailedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	status, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 8)
	if err != nil || status == 0 {
		status = noStatus
	}
	return Failed{int(status)}
}

// End is how systemd says that a service has ended: its variables $MONITOR_SERVICE_RESULT,
// $MONITOR_EXIT_CODE and $MONITOR_EXIT_STATUS (systemd.exec(5)).
type End struct{ Result, Code, Status string }

func (r podRoot) ended(app string, e End) error {
	if e.Result == "start-limit-hit" { // by its socket, a second time; the first end is recorded
		return nil
	}
	status, failed := e.ExitStatus(), e.Result != "success"
	if e.mayBeAsked() {
		failed = !r.asked()
	}
	tell(r.record(app, status))
	if !failed {
		return nil
	}
	if status == 0 {
		status = noStatus
	}
	if r.hasFailed(app, status) {
		return nil
	}
	return Failed{status}
}

// hasFailed notes that an app has failed, and reports whether another one did before.
func (r podRoot) hasFailed(app string, status int) bool {
	path := string(r) + FailedFile
	tmp := path + "." + app
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(tmp, []byte(strconv.Itoa(status)+"\n"), 0o644)
	}
	if err == nil {
		err = os.Link(tmp, path)
	}
	return errors.Is(err, fs.ErrExist)
}

// record writes an app's status. A reader finds the whole file, or none.
func (r podRoot) record(app string, status int) error {
	dir := string(r) + StatusDir + "/"
	if err := os.WriteFile(dir+"."+app, []byte(strconv.Itoa(status)+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(dir+"."+app, dir+app)
}

// ExitStatus is the status as a shell has it.
func (e End) ExitStatus() int {
	switch e.Code {
	case "exited":
		if n, err := strconv.ParseUint(e.Status, 10, 8); err == nil {
			return int(n)
		}
	case "killed", "dumped":
		if n := Signal(e.Status); n > 0 {
			return 128 + n
		}
	}
	return noStatus
}

// Signal is the number of a signal by systemd's name for it, or 0.
func Signal(name string) int {
	rest, ok := strings.CutPrefix(name, "RTMIN")
	if !ok {
		return int(unix.SignalNum("SIG" + name))
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(rest, "+"), 10, 5)
	if err != nil && rest != "" {
		return 0
	}
	return 34 + int(n) // SIGRTMIN of the C library
}

// mayBeAsked reports whether the app died of a signal by which it is asked to stop, or was never
// started: what it depends on failed, which systemd calls a success, too. systemd takes
// death by SIGHUP, SIGINT, SIGPIPE and SIGTERM for success (systemd.service(5),
// "SuccessExitStatus="), and by the app's stop signal too. That is right only if somebody asked.
func (e End) mayBeAsked() bool {
	switch e.Code {
	case "", "killed":
		return e.Result == "success"
	case "dumped":
		return e.Result == "success" || e.Result == "core-dump" && e.Status == "QUIT"
	}
	return false
}

// asked reports whether the pod is asked to stop. SIGTERM to all processes has PID 1 execute itself
// anew, and the signal by which systemd-nspawn asks it, at the same moment, is lost between.
func (r podRoot) asked() bool {
	for end := time.Now().Add(askedWait); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(string(r) + AskedFile); err == nil {
			return true
		}
		text, err := os.ReadFile(string(r) + "/proc/1/cmdline")
		if err == nil && bytes.Contains(text, []byte("\x00--deserialize")) {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}
