package flavor_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/pod/gc"
	"github.com/rkt-toolkit/rkt/lib/pod/logs"
	"github.com/rkt-toolkit/rkt/lib/pod/prepare"
	"github.com/rkt-toolkit/rkt/lib/pod/run"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
	"github.com/rkt-toolkit/rkt/lib/testkit"
	"golang.org/x/sys/unix"
)

// chroot is a flavor whose pods are their one app, in its root.
type chroot struct{}

func (chroot) Name() string                              { return "chroot" }
func (chroot) Features() stage1.Features                 { return stage1.Features{Network: true} }
func (chroot) Usable() error                             { return nil }
func (chroot) Prepare(stage1.Spec) (*stage1.Tree, error) { return &stage1.Tree{}, nil }
func (chroot) Lay(*poddir.Pod) ([]fstab.Bind, error)     { return nil, nil }
func (chroot) Init(supervisor int) int                   { return supervisor }
func (chroot) Root(string) string                        { return "/" }
func (chroot) Processes(init int, _ string) []int        { return []int{init} }
func (chroot) Main(init int, _ string) int               { return init }
func (chroot) Group(int, string) (string, error) {
	return "", errors.New("no cgroup of its own")
}
func (chroot) Stop(int) (unix.Signal, bool)       { return unix.SIGTERM, true }
func (chroot) Ready(*poddir.Reader) (bool, error) { return true, nil }
func (chroot) Health(*poddir.Pod, *poddir.Reader, string) (stage1.HealthState, bool) {
	return stage1.HealthState{}, false
}
func (chroot) Log(*poddir.Pod, string) stage1.Journal                   { return stage1.Journal{} }
func (chroot) Release(context.Context, *poddir.Pod, *slog.Logger) error { return nil }
func (chroot) Sweep(context.Context, poddir.Pods, *slog.Logger) error   { return nil }

func (chroot) Start(s *stage1.Start) (*stage1.Process, error) {
	a := s.Apps[0]
	config := stage1.Finish(a.Prepared, a.Final)
	return &stage1.Process{Program: "the app", Argv: config.Process.Args, Env: config.Process.Env, Leave: func() error {
		return errors.Join(unix.Chroot(s.Pod.Path(poddir.RootDir+stage1.AppRoot(a.Name))),
			unix.Chdir(config.Process.Cwd))
	}}, nil
}

// app says where it is, and ends with 7 when it is asked to.
const app = `package main

import ("fmt"; "os"; "os/signal"; "syscall"; "time")

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	entries, _ := os.ReadDir("/etc")
	for _, e := range entries {
		fmt.Println(e.Name())
	}
	fmt.Println(os.Getpid(), os.Getenv("GREETING"))
	select {
	case <-signals:
		os.Exit(7)
	case <-time.After(time.Minute):
	}
}
`

// becomeVariable has the data directory and the UUID of the pod that the test's process becomes.
const becomeVariable = "RKT_TEST_BECOME"

func TestMain(m *testing.M) {
	if data, uuid, ok := strings.Cut(os.Getenv(becomeVariable), " "); ok {
		fmt.Println(become(data, uuid))
		os.Exit(254)
	}
	os.Exit(m.Run())
}

func become(data, uuid string) error {
	p, err := poddir.In(data).Find(uuid, "")
	if err != nil {
		return err
	}
	return run.Become(p, run.Options{Flavors: flavors(), Stdin: os.Stdin, Stdout: os.Stdout,
		Log:   slog.New(slog.DiscardHandler),
		Leave: func() error { return nil }, Warn: func(line string) { fmt.Println(line) }})
}

func flavors() stage1.Flavors { return append(flavor.All(), chroot{}) }

// A flavor that is not in this repository's list runs an app, is found, asked to stop, and removed,
// by the steps as they are.
func TestSecondFlavor(t *testing.T) {
	data, err := os.MkdirTemp("/var/tmp", "rkt-flavor-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	images, pods := testStore(t, data), poddir.In(data)
	options := prepare.Options{UUID: poddir.NewUUID(), Flavor: chroot{}, AnyImage: true, AnyPlatform: true,
		Users:  poddir.UsersAuto,
		Stage2: "/usr/bin/rkt-stage2", Apps: []prepare.App{{Image: "one"}}, Warn: func(line string) { t.Error(line) },
		Image: func(context.Context, prepare.App) (*store.Image, error) { return images.Image(imageID) }}
	two := options
	two.UUID, two.Apps = poddir.NewUUID(), []prepare.App{{Image: "one", Name: "a"}, {Image: "one", Name: "b"}}
	if _, err := prepare.Pod(t.Context(), pods, images, two); !testkit.Says(err, "one app: ... flavor chroot") {
		t.Errorf("two apps: %v", err)
	}
	p, err := prepare.Pod(t.Context(), pods, images, options)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.Path(poddir.FlavorFile), []byte("\x00\x00"), 0o644); err != nil { // after a power cut
		t.Fatal(err)
	}
	if got, err := flavor.All().Of(p); err != nil || got.Name() != "host" {
		t.Errorf("an empty file: %v, %v", got, err)
	}
	if err := os.WriteFile(p.Path(poddir.FlavorFile), []byte("chroot\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := flavor.All().Of(p); !testkit.Says(err, `pod `+p.UUID+`: ... no flavor "chroot" ... fly, host, init`) {
		t.Errorf("a program without it: %v", err)
	}
	if err := errors.Join(os.Mkdir(p.Path(poddir.NetDir), 0o700), os.WriteFile(p.Path(poddir.NetnsFile),
		[]byte("host\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), becomeVariable+"="+data+" "+p.UUID)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	lines := bufio.NewScanner(out)
	for !strings.Contains(said, "hello") && lines.Scan() {
		said += lines.Text() + "\n"
	}
	if want := fmt.Sprintf("only-in-the-image\n%d hello\n", cmd.Process.Pid); !strings.HasSuffix(said, want) {
		t.Errorf("the app says %q, want %q at the end", said, want)
	}
	stopAndRemove(t, p, cmd)
}

func stopAndRemove(t *testing.T, p *poddir.Pod, cmd *exec.Cmd) {
	log := slog.New(slog.DiscardHandler)
	pod, err := running.Of(p, flavors())
	if err != nil {
		t.Fatal(err)
	}
	if leader, err := pod.Leader(); err != nil || leader != cmd.Process.Pid {
		t.Errorf("PID 1 is %d, %v", leader, err)
	}
	if _, err := logs.Command(p, logs.Options{Flavors: flavors()}); !testkit.Says(err, "flavor chroot ... no log") {
		t.Errorf("its log: %v", err)
	}
	c := &gc.Collector{Pods: p.Pods(), Flavors: flavors(), Log: log, Report: func(string) {},
		Warn:           func(line string) { t.Error(line) },
		ReleaseNetwork: func(context.Context, string) error { return os.RemoveAll(p.Path(poddir.NetDir)) }}
	if err := c.Remove(t.Context(), p); !errors.Is(err, gc.ErrRunning) {
		t.Errorf("removing it while it runs: %v", err)
	}
	if err := errors.Join(pod.Ask(log), running.Await(p, time.Minute)); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 7 {
		t.Errorf("ended with %v", err)
	}
	if state, err := p.State(); err != nil || state != poddir.Exited {
		t.Errorf("state %s, %v", state, err)
	}
	if err := c.Remove(t.Context(), p); err != nil {
		t.Error(err)
	}
	if _, err := p.State(); !errors.Is(err, poddir.ErrNotFound) {
		t.Errorf("it is still there: %v", err)
	}
}

var (
	imageID = "sha512-" + strings.Repeat("0", 128)
	layer   = "sha256-" + strings.Repeat("0", 64)
)

// testStore is a store with an image of the app.
func testStore(t *testing.T, data string) *store.Store {
	t.Helper()
	images, err := store.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(source, []byte(app), 0o600); err != nil {
		t.Fatal(err)
	}
	err = images.AddLayer(t.Context(), layer, func(l *store.Layer) error {
		build := exec.Command("go", "build", "-o", filepath.Join(l.Root.Name(), "app"), source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return errors.Join(os.Mkdir(filepath.Join(l.Root.Name(), "etc"), 0o755),
			os.WriteFile(filepath.Join(l.Root.Name(), "etc/only-in-the-image"), nil, 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
	m := schema.BlankImageManifest()
	m.Name = "example.com/app"
	m.App = &types.App{Exec: types.Exec{"/app"}, User: "0", Group: "0", WorkingDirectory: "/",
		Environment: types.Environment{{Name: "GREETING", Value: "hello"}}}
	if err := images.AddImage(t.Context(), imageID, m, []string{layer}, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	return images
}
