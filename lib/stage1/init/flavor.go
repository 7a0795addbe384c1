// Package initflavor is the flavor "init": the PID 1 of a pod is a small init of ours, rkt-stage2,
// which a launcher of ours, rkt-stage2 too, starts in its namespaces. There is no systemd in the
// pod, no journal, and nothing of the host's.
package initflavor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/process"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/health"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/machined"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/pid1"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
	"github.com/rkt-toolkit/rkt/lib/stage1/place"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
	"golang.org/x/sys/unix"
)

// Flavor is a stage1.Flavor.
type Flavor struct{}

var _ stage1.Flavor = Flavor{}

// Name is the word in the pod's directory.
func (Flavor) Name() string { return "init" }

// Features are what its pods can do so far.
func (Flavor) Features() stage1.Features {
	return stage1.Features{Apps: true, Users: true, Network: true, Attach: true, Health: true, Limits: true, Log: true}
}

// Usable tells what of the kernel the host lacks.
func (Flavor) Usable() error {
	if !cgroup.HasUnified() {
		return errors.New("pods of flavor init need a kernel with cgroups of version 2 (CONFIG_CGROUPS)")
	}
	return nil
}

// rootDirs are those of the pod's root.
var rootDirs = []stage1.File{
	{Name: "etc", Mode: 0o700}, {Name: "proc", Mode: 0o755}, {Name: "sys", Mode: 0o755}, {Name: "dev", Mode: 0o755},
	{Name: "run", Mode: 0o755}, {Name: stage1.DevDir[1:], Mode: 0o700}, {Name: pid1.ProcDir[1:], Mode: 0o700},
}

// Prepare is the pod's root, and the plan of its PID 1.
func (Flavor) Prepare(s stage1.Spec) (*stage1.Tree, error) {
	t := &stage1.Tree{Mounts: map[string][]specs.Mount{}}
	inRoot := func(name string) string { return path.Join(poddir.RootDir, name) }
	for _, dir := range rootDirs {
		t.Dirs = append(t.Dirs, stage1.File{Name: inRoot(dir.Name), Mode: dir.Mode})
	}
	p := plan.Plan{UUID: s.UUID, Shm: s.Shm}
	var err error
	if p.Capabilities, err = capabilities(s.Apps); err != nil {
		return nil, err
	}
	for _, a := range s.Apps {
		app, err := planOf(a)
		if err != nil {
			return nil, fmt.Errorf("app %q: %w", a.Name, err)
		}
		p.Apps = append(p.Apps, app)
		t.Dirs = append(t.Dirs, stage1.File{Name: inRoot(stage1.DevDir + "/" + a.Name), Mode: 0o700})
		if app.Journal {
			t.Mounts[a.Name] = []specs.Mount{{Destination: "/run/systemd/journal/socket", Type: "bind",
				Source: streams.Dir + "/" + a.Name + "/" + streams.Journal, Options: []string{"bind", "nofail"}}}
		}
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	t.Files = []stage1.File{
		{Name: inRoot(streams.HostJournal), Mode: 0o600},
		{Name: inRoot(plan.File), Mode: 0o600, Text: append(text, '\n')},
		{Name: inRoot("etc/machine-id"), Mode: 0o600, Text: []byte(strings.ReplaceAll(s.UUID, "-", "") + "\n")},
	}
	return t, place.GiveHelpers(t, s)
}

// planOf is what PID 1 is to know of an app.
func planOf(a stage1.App) (plan.App, error) {
	signal := unix.SIGTERM
	if a.StopSignal != "" {
		var err error
		if signal, err = process.ParseSignal(a.StopSignal); err != nil {
			return plan.App{}, err
		}
	}
	short := len(a.Name) <= streams.MaxName
	app := plan.App{Name: a.Name, Streams: a.Served(), StopSignal: int(signal), StopTimeout: a.StopTimeout,
		PreStart: a.PreStart != nil, PostStop: a.PostStop != nil, Notify: a.Notify,
		Output: a.Stdout.IsLog() || a.Stderr.IsLog(), NoStdout: !a.Stdout.IsLog(), NoStderr: !a.Stderr.IsLog(),
		Journal: short, Syslog: short && !slices.ContainsFunc(a.Volumes, func(volume string) bool {
			return stage1.IsIn("/dev/"+streams.Syslog, volume)
		})}
	if h := a.Health; h != nil {
		app.Health = &plan.Health{Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod,
			Retries: h.Retries, OnFailure: h.OnFailure, Ready: h.Ready}
		if s := h.Startup; s != nil {
			app.Health.Startup = &plan.Startup{Interval: s.Interval, Timeout: s.Timeout, Retries: s.Retries,
				Successes: s.Successes}
		}
	}
	return app, nil
}

// initCapabilities are what PID 1 and rkt-stage2 need themselves.
var initCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_RESOURCE",
}

// capabilities are these and what an app may keep.
func capabilities(apps []stage1.App) (uint64, error) {
	keep := slices.Clone(initCapabilities)
	for _, a := range apps {
		keep = append(keep, a.Capabilities...)
	}
	return stage1.CapabilitySet(keep)
}

// Lay has nothing to give: all that a pod has of the toolkit is rkt-stage2.
func (Flavor) Lay(*poddir.Pod) ([]fstab.Bind, error) { return nil, nil }

// Init is the one child of the launcher, in a PID namespace of its own.
func (Flavor) Init(launcher int) int {
	pid, _ := process.Init(launcher)
	return pid
}

// Root is where each pod that has a root of its own has that of an app.
func (Flavor) Root(app string) string { return stage1.AppRoot(app) }

// Processes are those in the app's cgroup, whose root directory is the app's root. What PID 1 has
// just made for the app may be in the cgroup already, and still have the pod's root.
func (Flavor) Processes(init int, app string) []int {
	var want, got unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/root%s", init, stage1.AppRoot(app)), &want); err != nil {
		return nil
	}
	return inGroup(init, app, func(pid int) bool {
		return unix.Stat(fmt.Sprintf("/proc/%d/root", pid), &got) == nil && got.Dev == want.Dev && got.Ino == want.Ino
	})
}

// Main is the oldest process in the app's cgroup that is not in the pod's own root, or 0.
func (Flavor) Main(init int, app string) int {
	var top, root unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/root", init), &top); err != nil {
		return 0
	}
	found := inGroup(init, app, func(pid int) bool {
		return unix.Stat(fmt.Sprintf("/proc/%d/root", pid), &root) == nil &&
			(root.Dev != top.Dev || root.Ino != top.Ino)
	})
	return append(found, 0)[0]
}

// inGroup are the processes of an app's cgroup that match, the oldest first.
func inGroup(init int, app string, match func(pid int) bool) []int {
	group := process.UnifiedGroup(init)
	if group == "" {
		return nil
	}
	group = podGroup(group) + pid1.AppGroup(app)
	started := map[int]uint64{}
	found := process.All(func(pid int) bool {
		own := process.UnifiedGroup(pid)
		if own != group && !strings.HasPrefix(own, group+"/") || !process.InPIDNamespace(init, pid) || !match(pid) {
			return false
		}
		started[pid] = process.StartTime(pid)
		return true
	})
	slices.SortFunc(found, func(a, b int) int { return cmp.Or(cmp.Compare(started[a], started[b]), a-b) })
	return found
}

// podGroup is the pod's cgroup by that of PID 1, which has one of its own where there are limits.
func podGroup(group string) string {
	return strings.TrimSuffix(strings.TrimSuffix(group, "/"+pid1.OwnGroup), "/")
}

// Group is the cgroup of version 2 that PID 1 is in, or one below it.
func (Flavor) Group(init int, app string) (string, error) {
	dirs, err := cgroup.Of(init)
	if err != nil {
		return "", err
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir + "/cgroup.controllers"); err == nil {
			dir = podGroup(dir)
			if app != "" {
				dir += pid1.AppGroup(app)
			}
			return dir, nil
		}
	}
	return "", fmt.Errorf("process %d: is in no cgroup of version 2", init)
}

// Stop is a signal that PID 1 takes once it has said so by its name.
func (Flavor) Stop(init int) (signal unix.Signal, takes bool) {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", init))
	return pid1.StopSignal, err == nil && strings.TrimSpace(string(name)) == pid1.TakesSignals
}

// Ready is what PID 1 has noted.
func (Flavor) Ready(dir *poddir.Reader) (bool, error) { return dir.Marked(poddir.ReadyFile), nil }

// Health is what PID 1 has noted, for an app that its plan has a check of.
func (f Flavor) Health(p *poddir.Pod, dir *poddir.Reader, app string) (stage1.HealthState, bool) {
	text, err := dir.ReadFile(poddir.RootDir + plan.File)
	if err != nil {
		return stage1.HealthState{}, false
	}
	of, err := plan.Parse(text)
	if err != nil || !slices.ContainsFunc(of.Apps, func(a plan.App) bool { return a.Name == app && a.Health != nil }) {
		return stage1.HealthState{}, false
	}
	return health.Read(running.Pod{Pod: p, Flavor: f}, dir, app)
}

// Log is the host's journal, if the pod's lines go there: records of the pod's root, which no user
// of the host's can send.
func (Flavor) Log(p *poddir.Pod, app string) stage1.Journal {
	output, err := p.ReadFile(poddir.RootDir + streams.OutputFile)
	users, errUsers := p.Users()
	if word, _, _ := strings.Cut(string(output), " "); err != nil || errUsers != nil || word != streams.ToJournal {
		return stage1.Journal{}
	}
	root := uint64(0)
	if users != nil {
		root = uint64(users.Base)
	}
	match := []string{"_UID=" + strconv.FormatUint(root, 10), "RKT_POD=" + p.UUID}
	if app != "" {
		match = append(match, "RKT_APP="+app)
	}
	return stage1.Journal{Match: match}
}

// Release has systemd-machined forget the machine, and removes the cgroups.
func (Flavor) Release(ctx context.Context, p *poddir.Pod, _ *slog.Logger) error {
	name := stage1.PodName(p.UUID)
	err := errors.Join(machined.Unregister(ctx, name), machined.StopScope(ctx, name), place.ReleaseMachine(ctx, p))
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	return place.RemoveGroups(p)
}

// Sweep has nothing to do: nothing is shared.
func (Flavor) Sweep(context.Context, poddir.Pods, *slog.Logger) error { return nil }
