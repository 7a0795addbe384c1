package pid1

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/health"
	"golang.org/x/sys/unix"
)

// check is the health check of an app.
type check struct {
	pid     int         // of the one that runs; 0 for none
	since   time.Time   // when the app has started
	timer   *time.Timer // of the next one, or of the end of the one that runs
	ended   bool        // the app is stopped, or has ended
	started bool        // what has to succeed first has
	again   bool        // the app is to be started anew
	printer int         // where the one that is being started prints
	output  chan []byte // the start of what it prints
}

// firstStartup is how long after the start of an app the first check of its start comes.
const firstStartup = 100 * time.Millisecond

// watch checks the app from now on, if it has a check.
func (a *process) watch() {
	if a.Health == nil || a.step != running || a.stops || a.check.timer != nil {
		return
	}
	first := a.Health.Interval
	if a.starts() {
		first = firstStartup
	}
	a.check.since = time.Now()
	a.check.timer = a.of.after(first, a.checkNow)
}

// starts reports whether the check of the app's start has not succeeded yet.
func (a *process) starts() bool { return a.Health.Startup != nil && !a.check.started }

// readyByHealth reports whether the app is ready when it has passed a check.
func (a *process) readyByHealth() bool { return a.Health != nil && a.Health.Ready }

// unwatch checks no more.
func (a *process) unwatch() {
	if a.Health == nil || a.check.ended {
		return
	}
	a.check.ended = true
	if a.check.timer != nil {
		a.check.timer.Stop()
	}
	killGroup(a.checkGroup())
}

func (a *process) checkGroup() string { return groups + CheckGroup(a.Name) }

// checkNow starts a check, which has failed if it takes too long.
func (a *process) checkNow() {
	if a.check.ended {
		return
	}
	handler, timeout := stage1.HealthCheck, a.Health.Timeout
	if a.starts() {
		handler, timeout = stage1.StartupCheck, a.Health.Startup.Timeout
	}
	pid, err := a.forkCheck(handler)
	if err != nil {
		tell(fmt.Errorf("app %q: health check: %w", a.Name, err))
		a.checked(stage1.Check{Status: failed, Startup: a.starts()})
		return
	}
	a.check.pid = pid
	a.check.timer = a.of.after(timeout, func() { killGroup(a.checkGroup()) })
}

// forkCheck starts a check, and reads what it prints.
func (a *process) forkCheck(handler string) (int, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer write.Close()
	a.check.printer = int(write.Fd())
	pid, err := a.fork([]string{stage1.Stage2, "app", a.Name, handler}, forCheck)
	if err != nil {
		read.Close()
		return 0, err
	}
	output := make(chan []byte, 1)
	a.check.output = output
	go func() {
		defer read.Close()
		text, _ := io.ReadAll(io.LimitReader(read, stage1.MaxCheckOutput))
		output <- text
		io.Copy(io.Discard, read)
	}()
	return pid, nil
}

// checkEnded is what happens when a check has ended.
func (a *process) checkEnded(status unix.WaitStatus) {
	a.check.pid = 0
	a.check.timer.Stop()
	killGroup(a.checkGroup()) // what it has left
	if a.check.ended {
		return
	}
	c := stage1.Check{Startup: a.starts(), Status: status.ExitStatus()}
	if status.Signaled() {
		c.Status = 128 + int(status.Signal())
	}
	select {
	case text := <-a.check.output:
		c.Output = string(text)
	case <-time.After(outputWait): // a process of it is still dying
	}
	a.checked(c)
}

// outputWait is how long what a check has left may take to die.
const outputWait = 100 * time.Millisecond

// checked notes a check, and does something about an app that has failed too many one after
// another. A failure in the start period does not count.
func (a *process) checked(c stage1.Check) {
	h, next := a.Health, a.Health.Interval
	retries, successes := h.Retries, 0
	if c.Startup {
		retries, successes, next = h.Startup.Retries, h.Startup.Successes, h.Startup.Interval
	}
	switch {
	case c.Status == 0:
		s, err := health.Note(a.Name, c, successes)
		tell(err)
		if c.Startup && s.Successes >= successes {
			a.check.started, next = true, h.Interval
		}
		if !a.starts() && a.readyByHealth() && !a.ready {
			a.of.appReady(a)
		}
	case time.Since(a.check.since) >= h.StartPeriod:
		s, err := health.Note(a.Name, c, successes)
		tell(err)
		if retries > 0 && s.Failed >= retries && a.unhealthy(s, retries) {
			return
		}
	}
	a.check.timer = a.of.after(next, a.checkNow)
}

// unhealthy does what is to be done about an app that has failed too many checks, and reports
// whether it is the end of the app.
func (a *process) unhealthy(s stage1.HealthState, retries int) bool {
	switch health.Say(a.Name, s, retries, a.Health.OnFailure) {
	case stage1.HealthNone:
		return false
	case stage1.HealthStop:
		unix.Kill(a.pid, unix.Signal(a.StopSignal))
		return false
	case stage1.HealthRestart:
		tell(health.Anew(a.Name, s))
		a.check.again = true
	}
	a.unwatch()
	a.kill()
	return true
}

// startAnew starts an app that has ended, and been swept up, because it is to be started anew, and
// reports whether it is.
func (a *process) startAnew() bool {
	if !a.check.again || a.stops || a.of.ending {
		return false
	}
	a.check, a.status, a.died = check{}, 0, false
	a.start()
	return true
}
