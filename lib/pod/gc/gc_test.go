package gc

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1/flavor"
)

func exited(t *testing.T, pods poddir.Pods, started bool) *poddir.Pod {
	t.Helper()
	p, lock, err := pods.Create(poddir.NewUUID())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	put(t, p, poddir.ManifestFile)
	if started {
		put(t, p, poddir.StartedFile)
	}
	return p
}

func put(t *testing.T, p *poddir.Pod, name string) {
	t.Helper()
	if err := os.WriteFile(p.Path(name), []byte("{}\n"), 0o640); err != nil {
		t.Fatal(err)
	}
}

// An expired pod is run, and ends, between the look at it and the lock: then its grace period
// counts.
func TestRulesUnderTheLock(t *testing.T) {
	pods := poddir.In(t.TempDir())
	p := exited(t, pods, false)
	if err := os.Mkdir(p.Path(poddir.NetDir), 0o750); err != nil {
		t.Fatal(err)
	}
	c := &Collector{Pods: pods, Flavors: flavor.All(), Log: slog.New(slog.DiscardHandler),
		Report: func(line string) { t.Errorf("reported %s", line) }}
	c.ReleaseNetwork = func(context.Context, string) error { // the last thing before the lock
		put(t, p, poddir.StartedFile)
		return os.Remove(p.Path(poddir.NetDir))
	}
	if err := c.Collect(t.Context(), Rules{GracePeriod: 1 << 60}); err != nil {
		t.Error(err)
	}
	if state, err := p.State(); err != nil || state != poddir.Exited {
		t.Errorf("state %v, %v; want exited", state, err)
	}
}

// TestKilledMomentsAgo: the lock of a pod is still held when its systemd-nspawn is gone, by the
// kernel for a moment or by another program. The pod is collected all the same.
func TestKilledMomentsAgo(t *testing.T) {
	pods := poddir.In(t.TempDir())
	p := exited(t, pods, true)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.Path(poddir.PIDFile), fmt.Appendln(nil, gone.Process.Pid), 0o640); err != nil {
		t.Fatal(err)
	}
	lock, err := p.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if state, err := p.State(); err != nil || state != poddir.Exited {
		t.Fatalf("state %v, %v; want exited", state, err)
	}
	time.AfterFunc(300*time.Millisecond, func() { lock.Close() })
	c := &Collector{Pods: pods, Flavors: flavor.All(), Log: slog.New(slog.DiscardHandler), Report: func(string) {},
		ReleaseNetwork: func(context.Context, string) error { return nil }}
	if err := c.Collect(t.Context(), Rules{}); err != nil {
		t.Error(err)
	}
	if state, err := p.State(); err == nil {
		t.Errorf("it is still there: %v", state)
	}
}

// A mark and a pod of a clock that was ahead are kept for their whole period, and no longer, from
// the first look at them.
func TestClockSetBack(t *testing.T) {
	for _, c := range []struct {
		name, file string
		started    bool
	}{{"prepared", poddir.ManifestFile, false}, {"garbage", poddir.GarbageFile, true}} {
		t.Run(c.name, func(t *testing.T) {
			pods := poddir.In(t.TempDir())
			p := exited(t, pods, c.started)
			if c.started {
				put(t, p, poddir.GarbageFile)
			}
			at := func(from time.Time) {
				t.Helper()
				if err := os.Chtimes(p.Path(c.file), from, from); err != nil {
					t.Fatal(err)
				}
			}
			collect := func(r Rules) bool {
				t.Helper()
				col := &Collector{Pods: pods, Flavors: flavor.All(), Log: slog.New(slog.DiscardHandler),
					Report:         func(string) {},
					ReleaseNetwork: func(context.Context, string) error { return nil }}
				if err := col.Collect(t.Context(), r); err != nil {
					t.Error(err)
				}
				_, err := p.State()
				return err == nil
			}
			hour := Rules{GracePeriod: time.Hour, ExpirePrepared: time.Hour}
			at(time.Now().AddDate(10, 0, 0))
			if !collect(Rules{MarkOnly: true}) || time.Since(p.Time(c.file)) > 0 {
				t.Fatal("--mark-only has changed it")
			}
			for range 2 {
				if !collect(hour) {
					t.Fatal("removed before its time")
				}
			}
			if age := time.Since(p.Time(c.file)); age < 0 || age > time.Minute {
				t.Fatalf("%s is %v old after the look at it", c.file, age)
			}
			at(time.Now().Add(-2 * time.Hour))
			if collect(hour) {
				t.Error("kept after its time")
			}
		})
	}
	// Without a period it goes at once, whatever its time.
	pods := poddir.In(t.TempDir())
	p := exited(t, pods, false)
	future := time.Now().Add(time.Hour)
	if err := os.Chtimes(p.Path(poddir.ManifestFile), future, future); err != nil {
		t.Fatal(err)
	}
	c := &Collector{Pods: pods, Flavors: flavor.All(), Log: slog.New(slog.DiscardHandler), Report: func(string) {},
		ReleaseNetwork: func(context.Context, string) error { return nil }}
	if err := c.Collect(t.Context(), Rules{}); err != nil {
		t.Error(err)
	}
	if _, err := p.State(); err == nil {
		t.Error("a prepared pod of the future outlives --expire-prepared=0s")
	}
}

// Many collectors at once, as timers and units start them, with pods that run among what they
// collect.
func TestManyCollectors(t *testing.T) {
	pods := poddir.In(t.TempDir())
	var running []*poddir.Pod
	const dead = 300
	for i := range dead {
		exited(t, pods, true)
		if i%10 == 0 {
			p := exited(t, pods, true)
			lock, err := p.Lock()
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			running = append(running, p)
		}
	}
	var all sync.WaitGroup
	var mutex sync.Mutex
	reported := 0
	for range 8 {
		all.Go(func() {
			c := &Collector{Pods: pods, Flavors: flavor.All(), Log: slog.New(slog.DiscardHandler),
				ReleaseNetwork: func(context.Context, string) error { return nil }, Report: func(string) {
					mutex.Lock()
					defer mutex.Unlock()
					reported++
				}}
			if err := c.Collect(t.Context(), Rules{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	left, err := pods.All()
	if err != nil || len(left) != len(running) {
		t.Errorf("%d pods left, %v; want the %d that run", len(left), err, len(running))
	}
	for _, p := range running {
		if state, err := p.State(); err != nil || state != poddir.Running {
			t.Errorf("a running pod: %v, %v", state, err)
		}
	}
	t.Logf("%d pods collected by 8 collectors, %d lines, %d pods that run kept", dead, reported, len(running))
}

// What a pod's own volumes held is told of when it is removed, and nothing is looked at by a link
// out of the pod.
func TestTellsOfData(t *testing.T) {
	pods := poddir.In(t.TempDir())
	p := exited(t, pods, true)
	for _, dir := range []string{"full", "empty"} {
		if err := os.MkdirAll(p.Path(poddir.VolumesDir+"/"+dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, p, poddir.VolumesDir+"/full/file")
	if err := os.Symlink(t.TempDir()+"/..", p.Path(poddir.VolumesDir+"/link")); err != nil {
		t.Fatal(err)
	}
	manifest := `{"apps":[{"name":"a","mounts":[{"volume":"full","path":"/data\u001b[1m"},{"volume":"empty",` +
		`"path":"/e"}]}]}`
	if err := os.WriteFile(p.Path(poddir.ManifestFile), []byte(manifest), 0o640); err != nil {
		t.Fatal(err)
	}
	var warned []string
	c := &Collector{Pods: pods, Flavors: flavor.All(), Log: slog.New(slog.DiscardHandler),
		Warn: func(line string) { warned = append(warned, line) }}
	if err := c.Remove(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	want := "pod " + p.UUID + `: removed with the data of its volumes: full ("/data\x1b[1m")`
	if len(warned) != 1 || warned[0] != want {
		t.Errorf("%q, want %q", warned, want)
	}
}
