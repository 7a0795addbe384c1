package streams

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"golang.org/x/sys/unix"
)

// Names in an app's directory below Dir. PIDFile has the process ID of the app; see NotePID.
const (
	Output  = "output" // standard output and error: one pipe, so that lines keep their order
	Health  = "health" // what health checks print
	PIDFile = "pid"
	lock    = "lock" // held by who reads the pipes
	// Ended is a socket: what is sent there is read when all that the app has said by Syslog and
	// Journal has been passed on.
	Ended = "ended"
)

// app is an app whose output is read.
type app struct {
	name    string
	lock    int
	groups  []string // its cgroups
	from    *sender
	pid     int // the last one that was known, else that of this process
	syslog  socket
	journal socket
}

func openApp(name string) (*app, error) {
	dir := filepath.Join(Dir, name)
	fd, err := unix.Open(filepath.Join(dir, lock), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, failed(dir, err)
	}
	groups, err := groupsOf(name)
	if err != nil {
		return nil, err
	}
	return &app{name: name, lock: fd, groups: groups, pid: os.Getpid(), syslog: socket{fd: -1},
		journal: socket{fd: -1}}, nil
}

// groupsOf are the cgroups of an app. A PID 1 that reads what apps print is in the group that
// theirs are below, or in one of its own below that.
func groupsOf(name string) ([]string, error) {
	if os.Getpid() != 1 {
		return cgroup.OfUnit("system.slice", name+".service")
	}
	own, err := cgroup.Own()
	for i, dir := range own {
		own[i] = filepath.Join(strings.TrimSuffix(dir, "/init.scope"), "system.slice", name+".service")
	}
	return own, err
}

// alone calls f while no other process reads the app's pipes.
func (a *app) alone(f func() error) error {
	for {
		err := unix.Flock(a.lock, unix.LOCK_EX)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return failed("lock of "+a.name, err)
		}
	}
	return errors.Join(f(), unix.Flock(a.lock, unix.LOCK_UN))
}

// find finds the app's process, in whose name its lines are recorded, if the one that was known is
// gone.
func (a *app) find() {
	if a.from != nil && alive(a.pid) {
		return
	}
	a.from = nil
	for _, pid := range a.processes() {
		var st unix.Stat_t
		if err := unix.Stat("/proc/"+strconv.Itoa(pid), &st); err == nil {
			a.pid, a.from = pid, newSender(unix.Ucred{Pid: int32(pid), Uid: st.Uid, Gid: st.Gid})
			return
		}
	}
}

// NotePID notes the process ID of the app, which this process is about to become: it may be gone
// when what it has printed is read. An app whose output nobody reads has no directory for it. PID 1
// of a namespace of its own is another process to the reader.
func NotePID(name string) {
	if pid := os.Getpid(); pid != 1 && filepath.Base(name) == name {
		os.WriteFile(filepath.Join(Dir, name, PIDFile), strconv.AppendInt(nil, int64(pid), 10), 0o600)
	}
}

// hasEnded reports whether nothing is known of the process any more but its end.
func hasEnded(pid int) bool {
	_, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	return err != nil
}

func alive(pid int) bool {
	var st unix.Stat_t
	return unix.Stat("/proc/"+strconv.Itoa(pid), &st) == nil
}

// processes are the app's own process, if that is known, and its oldest one.
func (a *app) processes() (pids []int) {
	if text, err := os.ReadFile(filepath.Join(Dir, a.name, PIDFile)); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			a.pid = pid
			pids = append(pids, pid)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	oldest := 0
	for _, group := range a.groups {
		text, _ := os.ReadFile(filepath.Join(group, "cgroup.procs")) // a group that is gone has no process
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 && (oldest == 0 || pid < oldest) {
				oldest = pid
			}
		}
	}
	if oldest > 0 {
		pids = append(pids, oldest)
	}
	return pids
}

// drain passes on a chunk of what waits in a pipe of the app's, and reports whether there may be
// more.
func (a *app) drain(p *pipe, name string, last bool, to *sink) (more bool, err error) {
	a.find()
	pass := func(line []byte, brokenBy string) error {
		r, ok := parse(line, brokenBy)
		if !ok {
			return nil
		}
		r.app, r.pid = a.name, a.pid
		if name == Health {
			if err := capture(a.name, r.text); err != nil {
				return err
			}
		}
		return to.write(r, a.from, name != Health)
	}
	err = a.alone(func() error {
		var err error
		more, err = p.drain(last, pass, to.flush)
		return err
	})
	return more, err
}
