package host

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/health"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
)

// Ready is what rkt-stage2 has noted, which ReadyUnit starts.
func (Flavor) Ready(dir *poddir.Reader) (bool, error) {
	if dir.Marked(poddir.ReadyFile) {
		return true, nil
	}
	_, err := dir.ReadFile(poddir.RootDir + UnitPath + "/" + ReadyUnit)
	if errors.Is(err, fs.ErrNotExist) {
		return false,
			fmt.Errorf("was started by an earlier version of rkt-run-prepared, which does not say when the pod is " +
				"ready")
	}
	return false, nil
}

// Health is what rkt-stage2 has noted, for an app with a timer for its check.
func (f Flavor) Health(p *poddir.Pod, dir *poddir.Reader, app string) (stage1.HealthState, bool) {
	if _, err := dir.ReadFile(poddir.RootDir + UnitPath + "/health@" + app + ".timer"); err != nil {
		return stage1.HealthState{}, false
	}
	return health.Read(running.Pod{Pod: p, Flavor: f}, dir, app)
}

// Log is the journal of the pod's systemd. For an app it is lines that the app has printed or said
// by syslog(3), and records that it has sent to the journal itself. Of a process that ended before
// journald looked at it, no unit is known.
func (Flavor) Log(p *poddir.Pod, app string) stage1.Journal {
	j := stage1.Journal{Dir: journalDir(p)}
	if app == "" {
		j.Match = []string{"_TRANSPORT=journal", "_TRANSPORT=stdout", "_TRANSPORT=syslog"}
	} else {
		j.Match = []string{"RKT_APP=" + app, "+", "_SYSTEMD_UNIT=" + app + ".service"}
	}
	return j
}
