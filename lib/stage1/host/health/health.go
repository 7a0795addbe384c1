// Package health notes how the health checks of an app end, and does something about an app that
// has failed too many.
package health

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/recorder"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
	"golang.org/x/sys/unix"
)

// Dir has a file for each app that was checked, with its stage1.HealthState, and while a check runs
// one with what it has printed.
const Dir = streams.HealthDir

// Healthy takes the name of an app that has passed a check.
func Healthy(args []string) error {
	if len(args) != 1 {
		return errors.New("not APP")
	}
	_, err := note(args[0], false, 0)
	return err
}

// Started takes the name of an app that has passed a check of its start, and how many it has to
// pass. It is an error as long as it has not.
func Started(args []string) error {
	if len(args) != 2 {
		return errors.New("not APP SUCCESSES")
	}
	successes, err := strconv.Atoi(args[1])
	if err != nil {
		return errors.New("not APP SUCCESSES")
	}
	s, err := note(args[0], true, successes)
	if err == nil && s.Successes < successes {
		err = fmt.Errorf("%d of %d checks have succeeded", s.Successes, successes)
	}
	return err
}

// Unhealthy takes the name of an app that has failed a check, how many failures in a row are too
// many, and what is done then, a stage1.HealthAction; without that the app is killed.
func Unhealthy(args []string) error { return failed(args, false) }

// Unstarted is Unhealthy for a check of the app's start, of which 0 is no number.
func Unstarted(args []string) error { return failed(args, true) }

func failed(args []string, startup bool) error {
	if len(args) == 2 { // of a pod that an older rkt prepared
		args = append(args, string(stage1.HealthKill))
	}
	if len(args) < 3 {
		return errors.New("not APP RETRIES ACTION [SIGNAL]")
	}
	retries, err := strconv.Atoi(args[1])
	if err != nil {
		return errors.New("not APP RETRIES ACTION [SIGNAL]")
	}
	s, err := note(args[0], startup, 0)
	if err != nil || retries == 0 || s.Failed < retries {
		return err
	}
	return act(args[0], s, retries, stage1.HealthAction(args[2]), args[3:])
}

// act does what is to be done about an app that is unhealthy, with a line in the app's log.
func act(app string, s stage1.HealthState, retries int, action stage1.HealthAction, signal []string) error {
	action = Say(app, s, retries, action)
	groups, err := cgroup.OfUnit("system.slice", app+".service")
	if err != nil {
		return err
	}
	switch action {
	case stage1.HealthNone:
		return nil
	case stage1.HealthRestart:
		return restart(app, groups, s)
	case stage1.HealthStop:
		return stop(groups, signal)
	}
	return kill(groups)
}

// Say tells what is to be done about an app that is unhealthy, in the app's log, and returns that:
// an app that is stopped and goes on is killed, and nothing is told twice.
func Say(app string, s stage1.HealthState, retries int, action stage1.HealthAction) stage1.HealthAction {
	what := "the app is killed"
	switch {
	case action == stage1.HealthNone && s.Failed > retries:
		return action
	case action == stage1.HealthNone:
		what = "nothing is done"
	case action == stage1.HealthRestart:
		what = "the app is started anew"
	case action == stage1.HealthStop && s.Failed == retries:
		what = "the app is stopped"
	default:
		action = stage1.HealthKill
	}
	err := errors.Join(keep(app, s), streams.Say(app, "unhealthy: "+strconv.Itoa(s.Failed)+
		" checks failed one after another, "+what))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return action
}

// note is Note for a check that systemd tells of by its $MONITOR_… variables.
func note(app string, startup bool, successes int) (stage1.HealthState, error) {
	output, err := streams.Checked(app)
	c := stage1.Check{Startup: startup, Status: recorder.Monitored().ExitStatus(), Output: string(output)}
	s, noted := Note(app, c, successes)
	return s, errors.Join(err, noted)
}

// Note notes how a check has ended, now, and returns what is known of the app's checks.
func Note(app string, c stage1.Check, successes int) (stage1.HealthState, error) {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return stage1.HealthState{}, err
	}
	text, _ := os.ReadFile(filepath.Join(Dir, app)) // a first check has none
	s := stage1.ParseHealthState(text)
	c.Time = time.Now().UnixNano()
	s.Add(c, successes)
	return s, write(Dir, app, s)
}

// Anew notes that an app is started anew.
func Anew(app string, s stage1.HealthState) error {
	s.Failed, s.Successes = -1, 0
	return write(Dir, app, s)
}

// Read is what is noted of the checks of an app, of one that has ended only if they ended it; ok is
// whether the caller may know.
func Read(p running.Pod, dir *poddir.Reader, app string) (s stage1.HealthState, ok bool) {
	text, err := p.ReadInside(strings.TrimPrefix(Dir, "/") + "/" + app)
	if errors.Is(err, fs.ErrNotExist) {
		return stage1.NewHealthState(), true
	}
	if err != nil { // it does not run; what ended it may have been noted
		text, err = dir.ReadFile(poddir.RootDir + stage1.HealthDir + "/" + app)
	}
	return stage1.ParseHealthState(text), err == nil
}

// write writes what is known of an app's checks.
func write(dir, app string, s stage1.HealthState) error {
	tmp := filepath.Join(dir, "."+app)
	if err := os.WriteFile(tmp, s.Text(), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, app))
}

// keep writes it where it stays when the pod has ended.
func keep(app string, s stage1.HealthState) error {
	if err := os.MkdirAll(stage1.HealthDir, 0o755); err != nil {
		return err
	}
	return write(stage1.HealthDir, app, s)
}

// kill kills the processes of the group that is there.
func kill(groups []string) error {
	group, err := there(groups)
	if err != nil {
		return err
	}
	return cgroup.Kill(group)
}

func there(groups []string) (string, error) {
	for _, group := range groups {
		if _, err := os.Stat(group); err == nil {
			return group, nil
		}
	}
	return "", errors.New("no cgroup of the app")
}

// stop has the app's main process get a signal.
func stop(groups []string, signal []string) error {
	pid, err := mainProcess(groups)
	if err != nil {
		return err
	}
	number := unix.SIGTERM
	if len(signal) > 0 {
		if n := recorder.Signal(strings.TrimPrefix(signal[0], "SIG")); n > 0 {
			number = unix.Signal(n)
		}
	}
	return unix.Kill(pid, number)
}

// mainProcess is the oldest one.
func mainProcess(groups []string) (int, error) {
	group, err := there(groups)
	if err != nil {
		return 0, err
	}
	pids, err := cgroup.Processes(group)
	if err == nil && len(pids) == 0 {
		err = errors.New("no process of the app")
	}
	if err != nil {
		return 0, err
	}
	return pids[0], nil
}

// restart has the pod's systemd kill the app and start it anew, as it does for a service that does
// not feed its watchdog (Restart=on-watchdog, sd_notify(3)). Its checks begin anew.
func restart(app string, groups []string, s stage1.HealthState) error {
	pid, err := mainProcess(groups)
	if err != nil {
		return err
	}
	err = errors.Join(Anew(app, s), os.MkdirAll(recorder.AgainDir, 0o755),
		os.WriteFile(filepath.Join(recorder.AgainDir, app), nil, 0o600))
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(pid), &st); err != nil {
		return err
	}
	as := unix.UnixCredentials(&unix.Ucred{Pid: int32(pid), Uid: st.Uid, Gid: st.Gid})
	return unix.Sendmsg(fd, []byte("WATCHDOG=trigger"), as, &unix.SockaddrUnix{Name: managerSocket}, 0)
}

// managerSocket is where systemd listens to its services.
const managerSocket = "/run/systemd/notify"
