package stage1

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Health is how to find out whether an app still works, as Docker's HEALTHCHECK and Podman's flags
// have it.
type Health struct {
	Exec        []string      // ends with 0 if the app does
	Interval    time.Duration // between the end of a check, or the app's start, and the next check
	Timeout     time.Duration // of a check, which has failed then
	StartPeriod time.Duration // since the app's start, in which failures do not count
	Retries     int           // how many checks have to fail one after another
	OnFailure   HealthAction  // what is done then; "" is HealthKill
	Startup     *Startup      // what has to succeed before Exec is run the first time; nil is nothing
	Ready       bool          // the app is ready when it has passed a check, and not before
}

// Startup is a check of an app that starts.
type Startup struct {
	Exec              []string
	Interval, Timeout time.Duration
	Retries           int // how many have to fail one after another for Health.OnFailure; 0 is no number
	Successes         int // how many have to succeed
}

// HealthAction is what is done when an app has failed too many checks.
type HealthAction string

// The actions.
const (
	HealthNone    HealthAction = "none"    // it is told, and nothing done
	HealthRestart HealthAction = "restart" // the app is killed and started anew, in the same pod
	HealthStop    HealthAction = "stop"    // the app gets its stop signal; when the next check fails, too, it is killed
	HealthKill    HealthAction = "kill"    // the app is killed
)

// HealthActions are all there are.
var HealthActions = []HealthAction{HealthNone, HealthRestart, HealthStop, HealthKill}

// HealthState is what is known of an app's checks, by rkt-stage2 in the pod.
type HealthState struct {
	Failed    int     `json:"failed"`    // how many have failed one after another; -1 before the first one
	Successes int     `json:"successes"` // how many checks of Startup have succeeded
	Checks    []Check `json:"checks"`    // the last ones, the newest last
}

// Check is how one check has ended.
type Check struct {
	Time    int64  `json:"time"`              // of its end, in nanoseconds since 1970
	Startup bool   `json:"startup,omitempty"` // a check of Startup
	Status  int    `json:"status"`            // exit status, 128+n for death by signal n; -1 for one that took too long
	Output  string `json:"output,omitempty"`  // the start of what it has printed
}

// How much is kept of checks.
const (
	MaxChecks      = 5
	MaxCheckOutput = 500 // bytes
)

// HealthDir has, in the pod's root, a file for each app with its HealthState when it was found
// unhealthy: for as long as the pod's directory is there.
const HealthDir = "/rkt/health"

// NewHealthState is that of an app that starts.
func NewHealthState() HealthState { return HealthState{Failed: -1} }

// ParseHealthState reads what Text wrote. A damaged one is that of an app that starts.
func ParseHealthState(text []byte) HealthState {
	s := NewHealthState()
	if json.Unmarshal(text, &s) != nil {
		return NewHealthState()
	}
	s.trim()
	return s
}

// Text is the state as a file.
func (s HealthState) Text() []byte {
	text, _ := json.Marshal(s) // which has no value that JSON can't hold
	return append(text, '\n')
}

// Add adds a check, and counts it. A check of Startup that succeeds is the app's first one to pass
// if successes have.
func (s *HealthState) Add(c Check, successes int) {
	s.Checks = append(s.Checks, c)
	s.trim()
	switch {
	case c.Status != 0 && c.Startup:
		s.Failed, s.Successes = max(s.Failed, 0)+1, 0
	case c.Status != 0:
		s.Failed = max(s.Failed, 0) + 1
	case c.Startup:
		if s.Successes++; s.Successes >= successes {
			s.Failed = 0
		}
	default:
		s.Failed = 0
	}
}

// trim bounds what checks have printed, which is an app's.
func (s *HealthState) trim() {
	if n := len(s.Checks) - MaxChecks; n > 0 {
		s.Checks = slices.Clone(s.Checks[n:])
	}
	for i, c := range s.Checks {
		if len(c.Output) > MaxCheckOutput {
			c.Output = c.Output[:MaxCheckOutput]
			for !utf8.ValidString(c.Output[max(0, len(c.Output)-1):]) && len(c.Output) > MaxCheckOutput-utf8.UTFMax {
				c.Output = c.Output[:len(c.Output)-1]
			}
		}
		s.Checks[i].Output = strings.ToValidUTF8(c.Output, "\ufffd")
	}
}
