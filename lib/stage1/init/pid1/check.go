package pid1

import (
	"fmt"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/health"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
	"golang.org/x/sys/unix"
)

// check is the health check of an app.
type check struct {
	pid   int         // of the one that runs; 0 for none
	since time.Time   // when the app has started
	timer *time.Timer // of the next one, or of the end of the one that runs
	ended bool        // the app is stopped, or has ended
}

// watch checks the app from now on, if it has a check.
func (a *process) watch() {
	if a.Health == nil || a.step != running || a.stops {
		return
	}
	a.check.since = time.Now()
	a.check.timer = a.of.after(a.Health.Interval, a.checkNow)
}

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
	pid, err := a.fork([]string{stage1.Stage2, "app", a.Name, stage1.HealthCheck}, forCheck)
	if err != nil {
		tell(fmt.Errorf("app %q: health check: %w", a.Name, err))
		a.checked(false)
		return
	}
	a.check.pid = pid
	a.check.timer = a.of.after(a.Health.Timeout, func() { killGroup(a.checkGroup()) })
}

// checkEnded is what happens when a check has ended.
func (a *process) checkEnded(status unix.WaitStatus) {
	a.check.pid = 0
	a.check.timer.Stop()
	killGroup(a.checkGroup()) // what it has left
	if !a.check.ended {
		a.checked(status == 0)
	}
}

// checked counts a check, and kills an app that has failed too many one after another. A failure in
// the start period does not count.
func (a *process) checked(passed bool) {
	switch {
	case passed:
		tell(health.Passed(a.Name))
	case time.Since(a.check.since) >= a.Health.StartPeriod:
		failed, err := health.Failed(a.Name)
		tell(err)
		if failed >= a.Health.Retries {
			tell(streams.Say(a.Name, health.Line(failed)))
			a.unwatch()
			a.kill()
			return
		}
	}
	a.check.timer = a.of.after(a.Health.Interval, a.checkNow)
}
