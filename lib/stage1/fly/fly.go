// Package fly is the flavor "fly": the process becomes the pod's one app, in the app's root and
// with the user, environment, volumes and resource limits of the app, and otherwise on the host:
// its network, processes, devices, /proc and /sys are the host's, and root is root. Nothing of the
// toolkit and no PID 1 of a pod stays beside the app. It is for programs that manage the host.
package fly

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/confine"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/host/process"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// Flavor is a stage1.Flavor.
type Flavor struct{}

var _ stage1.Flavor = Flavor{}

// hostTrees are of the host in the app's root.
var hostTrees = []string{"/proc", "/sys", "/dev"}

// Name is the word in the pod's directory.
func (Flavor) Name() string { return "fly" }

// Features are none: all is the host's.
func (Flavor) Features() stage1.Features { return stage1.Features{} }

// Usable finds nothing missing.
func (Flavor) Usable() error { return nil }

// Prepare refuses what would have no effect.
func (Flavor) Prepare(s stage1.Spec) (*stage1.Tree, error) {
	limits := s.Limits
	limits.TasksMax = 0 // the default of all pods
	if limits.Resources != (stage1.Resources{}) {
		return nil, lacks("limits of all apps")
	}
	for _, a := range s.Apps {
		if what := asked(a); what != "" {
			return nil, fmt.Errorf("app %q: %w", a.Name, lacks(what))
		}
	}
	return &stage1.Tree{}, nil
}

func lacks(what string) error { return fmt.Errorf("%s: pods of flavor fly do not have that", what) }

// asked is what an app asks for and would not get, "" for nothing.
func asked(a stage1.App) string {
	for _, thing := range []struct {
		name string
		is   bool
	}{
		{"event handlers", a.PreStart != nil || a.PostStop != nil},
		{"a PID namespace of its own", a.PID1 || a.Init},
		{"a root that is read-only", a.ReadOnly},
		{"kernel parameters", len(a.Sysctl) > 0},
		{"a tmpfs", len(a.Tmpfs) > 0},
		{"devices", a.Devices != ""},
		{"secrets", a.Secrets != ""},
		{"readiness by sd_notify(3)", a.Notify},
		{"a filter of system calls", len(a.Seccomp.Names) > 0 || a.Seccomp.Nested},
		{"an AppArmor profile", a.AppArmorProfile != ""},
		{"an SELinux context", a.SELinuxContext != ""},
		{"other capabilities", !slices.Equal(sorted(a.Capabilities), sorted(stage1.DefaultCapabilities))},
	} {
		if thing.is {
			return thing.name
		}
	}
	for _, volume := range a.Volumes {
		for _, tree := range hostTrees {
			if stage1.IsIn(volume, tree) {
				return "a volume at " + volume
			}
		}
	}
	return ""
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

// Lay has nothing to give.
func (Flavor) Lay(*poddir.Pod) ([]fstab.Bind, error) { return nil, nil }

// Start has the process become the app.
func (Flavor) Start(s *stage1.Start) (*stage1.Process, error) {
	if s.Network != "" {
		return nil, fmt.Errorf("pod %s: %w; use rkt-net add --net=host", s.Pod.UUID, lacks("a network of its own"))
	}
	if len(s.Sockets) > 0 {
		return nil, fmt.Errorf("pod %s: %w", s.Pod.UUID, lacks("socket activation"))
	}
	a := s.Apps[0]
	config := stage1.Finish(a.Prepared, a.Final)
	p, err := processOf(config)
	if err != nil {
		return nil, fmt.Errorf("pod %s: app %q: %w", s.Pod.UUID, a.Name, err)
	}
	root := s.Pod.Path(poddir.RootDir + stage1.AppRoot(a.Name))
	return &stage1.Process{
		Program: "the app", Argv: config.Process.Args, Env: config.Process.Env,
		Filter: func([]unix.SockFilter) error { return nil }, // system calls are the host's, too
		Placed: func() error { return mountHost(root) },
		Leave:  func() error { return leave(root, config, p, s) },
	}, nil
}

// processOf is what the app's process is.
func processOf(config *specs.Spec) (*confine.Process, error) {
	user := config.Process.User
	limits, err := stage1.Rlimits(config.Process.Rlimits)
	if err != nil {
		return nil, err
	}
	return &confine.Process{UID: user.UID, GID: user.GID, Groups: user.AdditionalGids, Bounding: ^uint64(0),
		NoNewPrivileges: config.Process.NoNewPrivileges, Limits: limits}, nil
}

// mountHost shows the host's trees in the app's root, whose links lead nowhere else.
func mountHost(path string) error {
	root, err := os.Open(path)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, tree := range hostTrees {
		if err := mountTree(root, tree); err != nil {
			return fmt.Errorf("%s: %w", tree, err)
		}
	}
	return nil
}

func mountTree(root *os.File, path string) error {
	const flags = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	target, err := overlay.MountPoint(root, path, tree)
	if err != nil {
		return err
	}
	defer target.Close()
	return overlay.MoveTo(tree, target)
}

// leave gives the thread what the app has, and tells the unit that the pod is ready.
func leave(root string, config *specs.Spec, p *confine.Process, s *stage1.Start) error {
	if score := config.Process.OOMScoreAdj; score != nil {
		if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(*score)), 0); err != nil {
			return fmt.Errorf("OOM score %d: %w", *score, err)
		}
	}
	if !s.Interactive {
		if err := process.NoInput(); err != nil {
			return err
		}
	}
	if err := ready(s.Env); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if mask := config.Process.User.Umask; mask != nil {
		unix.Umask(int(*mask))
	}
	if err := pivot(root); err != nil {
		return fmt.Errorf("%s: %w", root, err)
	}
	if err := p.Apply(); err != nil {
		return err
	}
	if err := unix.Chdir(config.Process.Cwd); err != nil { // as the app, which has to be able to go there
		return fmt.Errorf("working directory %s: %w", config.Process.Cwd, err)
	}
	return nil
}

// pivot makes the app's root that of the mount namespace, in which the app alone is: rkt-enter
// finds it there.
func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	return overlay.Pivot()
}

// ready says so to a unit with Type=notify. After it only the kernel can refuse something.
func ready(env []string) error {
	for _, v := range env {
		if to, ok := strings.CutPrefix(v, "NOTIFY_SOCKET="); ok {
			return systemd.Notify(to, []byte("READY=1"), nil)
		}
	}
	return nil
}

// Init is the app.
func (Flavor) Init(supervisor int) int { return supervisor }

// Root is the root of its mount namespace.
func (Flavor) Root(string) string { return "/" }

// Processes are the app's own. What it has started is the host's as well.
func (Flavor) Processes(init int, _ string) []int { return []int{init} }

// Main is the app.
func (Flavor) Main(init int, _ string) int { return init }

// Group is the cgroup that the process was started in, which may have others in it.
func (Flavor) Group(init int, _ string) (string, error) {
	dirs, err := cgroup.Of(init)
	if err == nil && len(dirs) == 0 {
		err = fmt.Errorf("process %d: is in no cgroup", init)
	}
	if err != nil {
		return "", err
	}
	return dirs[0], nil
}

// Stop is SIGTERM, which goes to the app.
func (Flavor) Stop(int) (unix.Signal, bool) { return unix.SIGTERM, true }

// Ready is what runs.
func (Flavor) Ready(*poddir.Reader) (bool, error) { return true, nil }

// Health is not known.
func (Flavor) Health(*poddir.Pod, *poddir.Reader, string) (stage1.HealthState, bool) {
	return stage1.HealthState{}, false
}

// Log is not known: what the app prints goes where the caller's output goes.
func (Flavor) Log(*poddir.Pod, string) stage1.Journal { return stage1.Journal{} }

// Release has nothing to take away: the mounts went with the process.
func (Flavor) Release(context.Context, *poddir.Pod, *slog.Logger) error { return nil }

// Sweep has nothing to do.
func (Flavor) Sweep(context.Context, poddir.Pods, *slog.Logger) error { return nil }
