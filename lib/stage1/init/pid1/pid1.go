package pid1

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/recorder"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
	"github.com/rkt-toolkit/rkt/lib/stage1/outbox"
	"github.com/rkt-toolkit/rkt/lib/stage2/app"
	"golang.org/x/sys/unix"
)

// control is the descriptor by which the launcher and this process talk. Its end is that of the
// launcher.
const control = 3

// failed is rkt's own exit status, lost that of an app that has none of its own.
const (
	failed = 254
	lost   = 255
)

// pod is the pod, as its PID 1 knows it.
type pod struct {
	plan    *plan.Plan
	apps    []*process
	control *os.File
	console int // held open, so that what is printed there is read to its end
	news    *outbox.Outbox
	events  chan func() // what the one goroutine that changes anything is to do next
	asked   bool        // the pod is asked to stop
	ending  bool        // for that reason, or another: no app goes on
	ready   bool
	alone   bool // the launcher is gone
	telling bool // the host will be told the news
	failed  int  // the status of the first app that failed
}

// Run is PID 1. It returns when no app runs any more, with the pod's exit status. The caller has
// locked the thread, which alone starts processes: they are to have what it has.
func Run(args []string) (status int, err error) {
	if len(args) > 1 || os.Getpid() != 1 {
		return failed, errors.New("pod: is the PID 1 of a pod")
	}
	if err := unix.CloseRange(control, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return failed, err
	}
	p := &pod{control: os.NewFile(control, "control"), events: make(chan func())}
	if p.plan, err = plan.Read(Outside); err != nil {
		return failed, err
	}
	if err := setUp(p.plan); err != nil {
		return failed, err
	}
	if err := p.prepare(); err != nil {
		return failed, err
	}
	p.listen()
	if len(args) == 0 {
		p.start()
	}
	for !p.over() {
		if (<-p.events)(); p.alone {
			return lost, nil
		}
	}
	if p.asked {
		tell(recorder.Asked(nil)) // a note that was not made when it was asked
		tell(recorder.Stopped(nil))
	}
	return p.failed, nil
}

// listen has requests and ends of processes be events.
func (p *pod) listen() {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, unix.SIGCHLD, unix.SIGTERM, unix.SIGINT, StopSignal, StopSignal+1, StopSignal+2)
	signal.Ignore(unix.SIGHUP, unix.SIGPIPE)
	go func() {
		for s := range signals {
			if s == unix.SIGCHLD {
				p.events <- p.reap
			} else {
				p.events <- p.stop
			}
		}
	}()
	go func() {
		message := make([]byte, 16)
		for {
			n, err := p.control.Read(message)
			if err != nil || n == 0 {
				p.events <- func() { p.alone = true }
				return
			}
			if string(message[:n]) == Placed {
				p.events <- p.start
			} else {
				p.events <- p.stop
			}
		}
	}()
	tell(os.WriteFile("/proc/self/comm", []byte(TakesSignals), 0))
}

// start starts all apps.
func (p *pod) start() {
	for _, a := range p.apps {
		a.start()
	}
	p.watchMemory()
}

// over reports whether no process of an app is to be waited for.
func (p *pod) over() bool {
	for _, a := range p.apps {
		if a.step != done {
			return false
		}
	}
	return true
}

// stop is what happens when the pod is asked to end. Apps are stopped once, however many ask.
func (p *pod) stop() {
	if p.asked {
		return
	}
	p.asked = true
	tell(recorder.Asked(nil))
	p.end()
}

// end stops all apps.
func (p *pod) end() {
	if p.ending {
		return
	}
	p.ending = true
	for _, a := range p.apps {
		a.stop()
	}
}

// reap takes the statuses of all processes that have ended.
func (p *pod) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		for _, a := range p.apps {
			switch pid {
			case a.pid:
				a.ended(status)
			case a.check.pid:
				a.checkEnded(status)
			case a.server.pid:
				a.serverEnded()
			}
		}
	}
}

// appReady notes that an app is ready, and tells the host when all are.
func (p *pod) appReady(a *process) {
	a.ready = true
	for _, a := range p.apps {
		if !a.ready {
			return
		}
	}
	if p.ready || p.ending {
		return
	}
	p.ready = true
	tell(p.giveUp())
	tell(os.WriteFile(stage1.ReadyFile, nil, 0o644))
	p.say("READY=1")
}

// heard takes what an app has said by sd_notify(3).
func (p *pod) heard(a *process, text []byte) {
	p.news.Add(a.Name, text)
	if status := p.news.BeforeReady(a.Name, text); status != "" {
		p.say(status)
	}
	if slices.Contains(strings.Split(string(text), "\n"), "READY=1") {
		if !a.ready && !a.readyByHealth() {
			p.appReady(a)
		}
		a.watch()
	}
	if p.telling {
		return
	}
	p.telling = true
	p.after(outbox.Interval, func() {
		p.telling = false
		if text := p.news.Take(); text != "" {
			p.say(text)
		}
	})
}

// vouch tells the host's unit that the pod is alive, for apps that do not say so themselves.
func (p *pod) vouch() {
	p.after(time.Duration(p.plan.Watchdog)*time.Microsecond/2, func() {
		p.say("WATCHDOG=1")
		p.vouch()
	})
}

// say tells the host's unit something.
func (p *pod) say(text string) {
	_, err := p.control.Write([]byte(text))
	tell(err)
}

// after has something done later.
func (p *pod) after(wait time.Duration, do func()) *time.Timer {
	return time.AfterFunc(wait, func() { p.events <- do })
}

func tell(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, app.Line(err))
	}
}
