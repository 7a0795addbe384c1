// Package stage1 is what stands between a pod and its apps, as far as that is the same in every
// flavor: what an app is (App), what rkt-stage2 makes of it (Config), and what a flavor is
// (Flavor), of which each has a package below.
package stage1

import (
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/seccomp"
)

// App is an app with everything resolved: names of users to numbers, the program to an absolute
// path in the app's root.
type App struct {
	Name              string
	Exec              []string
	PreStart          []string // run to its end before the app; may be nil
	PostStop          []string // run when the app has ended; may be nil
	HandlersAsApp     bool     // they run as the app's user, and not as root
	UID, GID          uint32
	SupplementaryGIDs []uint32
	WorkingDir        string
	Environment       []Variable
	Capabilities      []string      // the bounding set, as CAP_… names; none is none
	StopSignal        string        // "" is SIGTERM
	StopTimeout       time.Duration // after which it is killed; 0 is never
	Tmpfs             []specs.Mount
	Devices           string            // DevicesAnnotation
	Notify            bool              // the app calls sd_notify(3) itself
	AllPaths          bool              // /proc and /sys as the kernel has them
	Volumes           []string          // where the app has volumes
	Sysctl            map[string]string // kernel parameters of the pod's namespaces
	ReadOnly          bool              // the root, except for volumes
	PID1              bool              // it is PID 1 of a PID namespace of its own
	Init              bool              // rkt-stage2 init is, see there
	Stdin             Stream            // "" is Null
	Stdout, Stderr    Stream            // "" is Log
	Health            *Health           // nil is no check
	Secrets           string            // SecretsAnnotation
	Isolation
}

// Stream is where an app's standard input comes from, or where what it prints goes.
type Stream string

// StreamAnnotation and the word stdin, stdout or stderr is the name of rkt's annotation, in a pod's
// manifest, that has an app's Stream.
const StreamAnnotation = "coreos.com/rkt/stage2/"

// The values of a Stream, as rkt named them.
const (
	Log      Stream = "log" // into the pod's journal, and to the standard output of the pod; no input
	Null     Stream = "null"
	TTY      Stream = "tty"    // a terminal of the app's own, for rkt-attach
	Attached Stream = "stream" // a pipe, for rkt-attach
)

// IsLog reports whether it is the log.
func (s Stream) IsLog() bool { return s == Log || s == "" }

// Attachable reports whether rkt-attach has to serve the app in the pod.
func (a App) Attachable() bool { return len(a.Served()) > 0 }

// Served are the streams that rkt-attach serves, as it takes them: stdin=tty.
func (a App) Served() (streams []string) {
	for i, s := range []Stream{a.Stdin, a.Stdout, a.Stderr} {
		if s == TTY || s == Attached {
			streams = append(streams, []string{StdinPipe, StdoutPipe, StderrPipe}[i]+"="+string(s))
		}
	}
	return streams
}

// AttachFile is rkt-attach, seen by the pod's PID 1, and AttachDir the directory that has a
// directory for each app that it serves.
const (
	AttachFile = "/rkt/attach"
	AttachDir  = "/run/rkt/attach"
)

// Names in an app's directory in AttachDir. A pipe is there if the stream is Attached, the link to
// the terminal if one of them is TTY.
const (
	StdinPipe    = "stdin"
	StdoutPipe   = "stdout"
	StderrPipe   = "stderr"
	TerminalLink = "tty"
	AttachSocket = "socket"
)

// Isolation is what an app may do and use, apart from capabilities. Zero values limit nothing.
type Isolation struct {
	Seccomp         seccomp.Calls // without groups
	NoNewPrivileges bool
	SELinuxContext  string
	AppArmorProfile string
	OOMScoreAdj     *int
	Rlimits         []specs.POSIXRlimit
	Resources
}

// Resources are limits that the cgroup of an app has, or that of all apps. 0 limits nothing.
type Resources struct {
	CPUWeight      uint64 `json:"cpuWeight,omitempty"`      // 1 to 10000
	CPUMilli       uint64 `json:"cpuMilli,omitempty"`       // thousandths of a CPU
	MemoryMax      uint64 `json:"memoryMax,omitempty"`      // bytes
	BlockBandwidth uint64 `json:"blockBandwidth,omitempty"` // bytes a second, read and written each
	BlockIOPS      uint64 `json:"blockIOPS,omitempty"`      // operations a second, likewise
	TasksMax       uint64 `json:"tasksMax,omitempty"`       // processes and threads
}

// DefaultTasks is how many processes and threads the apps of a pod may have together where nobody
// says otherwise: enough for any of them, and little beside the 4 million of a host (pid_max).
const DefaultTasks = 4096

// Variable is one environment variable.
type Variable struct{ Name, Value string }

// AppRoot is an app's root, seen from the pod's systemd.
func AppRoot(app string) string { return "/opt/stage2/" + app + "/rootfs" }

// PodName is what a pod is called that nobody has given a name to: by its own host name, and where
// a flavor makes it known.
func PodName(uuid string) string { return "rkt-" + uuid }

// DevDir has a directory of the pod's root for each app, on which the app's /dev is mounted, where
// a flavor wants it.
const DevDir = "/rkt/dev"

// ReadyFile is there, in the pod's root, once the pod is ready: each app that calls sd_notify(3)
// has said READY=1, each other one runs or has run, and none has failed.
const ReadyFile = "/rkt/ready"
