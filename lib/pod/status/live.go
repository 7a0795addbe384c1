package status

import (
	"strconv"
	"time"

	"github.com/rkt-toolkit/rkt/lib/network"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// health is what Docker calls the status of an app's health check: starting, healthy, or how many
// checks have failed one after another. It is "" for an app without a check, one that does not run,
// and a caller who may not see it.
func health(f stage1.Flavor, p *poddir.Pod, dir *poddir.Reader, app App) string {
	if f == nil || app.State != poddir.Running.String() {
		return ""
	}
	failed, ok := f.Health(p, dir, app.Name)
	switch {
	case !ok:
		return ""
	case failed < 0:
		return "starting"
	case failed == 0:
		return "healthy"
	}
	return "failing:" + strconv.Itoa(failed)
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
