package status

import (
	"strconv"
	"time"

	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// health is what Docker calls the status of an app's health check: starting, healthy, or how many
// checks have failed one after another, and the last checks. Of an app that has ended it is how it
// failed, if its checks ended it. It is "" for an app without a check, and a caller who may not see
// it.
func health(f stage1.Flavor, p *poddir.Pod, dir *poddir.Reader, pod Pod, app App) (string, []Check) {
	if f == nil || pod.State == poddir.Running.String() && app.State != pod.State {
		return "", nil
	}
	s, ok := f.Health(p, dir, app.Name)
	var checks []Check
	for _, c := range s.Checks {
		checks = append(checks, Check(c))
	}
	switch {
	case !ok:
		return "", nil
	case s.Failed < 0:
		return "starting", checks
	case s.Failed == 0:
		return "healthy", checks
	}
	return "failing:" + strconv.Itoa(s.Failed), checks
}

// ports are the ports of the host that are forwarded to the pod.
func ports(p *poddir.Pod) (texts []string, err error) {
	all, err := network.Forwarded(p.Dir())
	for _, port := range all {
		texts = append(texts, port.String()+"->"+strconv.Itoa(port.ContainerPort))
	}
	return texts, err
}

// Ran is for how long the pod has run until now, or ran until its last app exited; 0 if that is not
// known.
func (p Pod) Ran(now time.Time) time.Duration {
	if p.StartedAt == nil {
		return 0
	}
	end := now.UnixNano()
	if p.State != poddir.Running.String() {
		end = 0
		for _, a := range p.Apps {
			end = max(end, value(a.FinishedAt))
		}
	}
	return max(0, time.Duration(end-*p.StartedAt)).Truncate(time.Second)
}
