// Package plan is what rkt-run-prepared tells the launcher and the PID 1 of a pod of flavor init.
package plan

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// File is where it is, in the pod's root. Root there can read it and nobody else.
const File = "/rkt/init.json"

// Plan is a pod as its PID 1 runs it.
type Plan struct {
	UUID         string
	Apps         []App
	Capabilities uint64 // that PID 1 keeps, a bit each
	Shm          uint64 // size of /dev/shm in bytes; 0 is the default
	Hostname     string
	Users        uint32 // the first of its own users; 0 is the host's
	HostIPC      bool   // in the host's IPC namespace
	Writable     bool   // /proc and /sys can be written to
	Sockets      int    // how many descriptors the launcher has for apps
	Terminal     bool   // the one app has the pod's terminal, /dev/console
	Stdin        bool   // but reads a descriptor of PID 1's, which follows those for apps
	Watchdog     uint64 // the unit's, in microseconds; 0 for none
	MountLabel   string // the SELinux context of file systems that are made for the pod; "" for none
	Limits       []Limit
	Machine      string // its name at systemd-machined; "" if that is not there
}

// Limit is what a file of a group below the pod's is to have, for which the group needs a
// controller.
type Limit struct{ Controller, File, Text string }

// App is an app as PID 1 runs it. The rest is in the app's own configuration.
type App struct {
	Name        string
	StopSignal  int           // that asks it to stop
	StopTimeout time.Duration // after which it is killed; 0 is never
	PreStart    bool          // has such a handler
	PostStop    bool
	Notify      bool // calls sd_notify(3)
	Output      bool // something of what it prints goes to the log
	NoStdout    bool // nobody reads that
	NoStderr    bool
	Syslog      bool // has the pod's /dev/log
	Journal     bool // has the socket of a journal
	Sockets     []Socket
	Health      *Health // nil is no check
	// Streams are words stdin=, stdout= or stderr= and tty or stream, of those that one can attach
	// to.
	Streams []string
}

// Stream is how one can attach to a stream of that name: tty, stream, or "" for not at all.
func (a App) Stream(name string) string {
	for _, s := range a.Streams {
		if value, ok := strings.CutPrefix(s, name+"="); ok {
			return value
		}
	}
	return ""
}

// Health is when an app's health is checked, as stage1.Health has it.
type Health struct {
	Interval, Timeout, StartPeriod time.Duration
	Retries                        int
	OnFailure                      stage1.HealthAction
	Ready                          bool
	Startup                        *Startup // nil is no check of the start
}

// Startup is when an app that starts is checked, as stage1.Startup has it.
type Startup struct {
	Interval, Timeout  time.Duration
	Retries, Successes int
}

// Socket is a listening socket that an app is to have.
type Socket struct {
	Name  string // in $LISTEN_FDNAMES
	Index int    // among those of the pod
}

// Read reads the plan of the pod whose root is at a path.
func Read(root string) (*Plan, error) {
	text, err := os.ReadFile(root + File)
	if err != nil {
		return nil, err
	}
	return Parse(text)
}

// Parse reads the text of one.
func Parse(text []byte) (*Plan, error) {
	p := &Plan{}
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("%s: %w", File, err)
	}
	return p, nil
}

// NotifySocket is where PID 1 takes what an app says by sd_notify(3).
func NotifySocket(app string) string { return "/run/rkt/notify/" + app }

// ServerSocket is where PID 1 takes what the program says that serves an app's streams.
func ServerSocket(app string) string { return "/run/rkt/servers/" + app }
