package stage1

import (
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/devfilter"
	"github.com/rkt-toolkit/rkt/lib/host/selinux"
	"github.com/rkt-toolkit/rkt/lib/host/userns"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"golang.org/x/sys/unix"
)

// Start is a pod that is about to start, as far as that is the same in every flavor.
type Start struct {
	Pod     *poddir.Pod
	Apps    []*Starting
	Users   *userns.Range // nil is the host's
	Network string        // path of its network namespace, which the process has joined; "" is the host's
	Sockets []Socket      // descriptors 3 and following
	Binds   []fstab.Bind  // the pod's mounts

	Devices map[string]string // of the host, by their paths, that apps have, and how: letters of "rwm"
	Rules   []devfilter.Rule  // of the pod's device filter

	Label *selinux.Context // SELinux: of what is mounted or made for the pod; nil is none

	Hostname    string // "" is PodName
	Interactive bool   // the one app gets the terminal, or what standard input is
	Strict      bool   // a limit that can't be enforced is an error
	Unfiltered  bool   // no filter of system calls
	HostIPC     bool   // in the host's IPC namespace
	Writable    bool   // /proc and /sys can be written to

	Stdin, Stdout *os.File                          // the process's
	Env           []string                          // the process's, without what tells of Sockets
	Look          func(name string) (string, error) // finds another program of the toolkit
	Warn          func(line string)                 // told of what is odd and does not keep the pod from starting
	Log           *slog.Logger
}

// Starting is an app of such a pod.
type Starting struct {
	Name     string
	Prepared *specs.Spec // nil if an older rkt prepared the pod: its units say all of it
	Final    Final       // which Start of a flavor may add to
	Secrets  []string    // where its credentials are mounted besides SecretsDir
}

// Socket is a listening socket that was passed to the process, and that an app is to have.
type Socket struct {
	App     string
	Name    string // in $LISTEN_FDNAMES
	Kind    string // the setting of systemd.socket(5) that makes one such: ListenStream, …
	Address string // as systemd.socket(5) writes it
	Port    string // name of the app's port
}

// SocketName is the name in $LISTEN_FDNAMES of the sockets of an app that one unit of the host's
// has passed: the name that the unit's FileDescriptorName= gives, or the port's where the unit
// gives none and all is one port's.
func SocketName(sockets []Socket) string {
	name := sockets[0].Name
	var ports []string
	for _, s := range sockets {
		ports = append(ports, s.Port)
	}
	slices.Sort(ports)
	isUnit := name == "" || name == "unknown" || strings.HasSuffix(name, ".socket")
	if distinct := slices.Compact(ports); len(distinct) == 1 && isUnit {
		return distinct[0]
	}
	return name
}

// Process is what the process becomes. The functions are called in this order, in a mount namespace
// of the thread's own; nil is nothing to do.
type Process struct {
	Program string // what it is called
	Argv    []string
	Env     []string
	// Mounts reports whether the flavor itself mounts a volume in the app's root.
	Mounts func(b fstab.Bind, app *Starting) bool
	// Filter takes the pod's seccomp filter, before Leave, for a flavor that has each app get it by
	// the file stage1.PodFilterFile; nil has the process itself load it, last of all.
	Filter func(filter []unix.SockFilter) error
	// Placed is called when the pod's mounts are there, and the working directory is the pod's: for
	// cgroups, filters of devices and descriptors.
	Placed func() error
	// Leave is called last, when the pod counts as started and the process is in the pod's network
	// namespace: for taking away what the pod is not to have of the host.
	Leave func() error
}
