package poddir

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// newNamed makes a pod with a name; its lock is let go of at the test's end, if it is not before.
func newNamed(t *testing.T, pods Pods, c Claim) (*Pod, *os.File) {
	t.Helper()
	p, lock, err := pods.CreateNamed(NewUUID(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	return p, lock
}

// A name is refused for as long as the pod that has it has not exited.
func TestNameInEachState(t *testing.T) {
	exited := func(p *Pod, lock *os.File) {
		write(t, p, ManifestFile, "{}")
		write(t, p, StartedFile, "")
		lock.Close()
	}
	for state, c := range map[State]struct {
		bring func(p *Pod, lock *os.File)
		says  string // "" if the name may be given again
	}{
		Preparing:      {func(*Pod, *os.File) {}, "which is preparing"},
		AbortedPrepare: {func(_ *Pod, lock *os.File) { lock.Close() }, ""},
		Prepared:       {func(p *Pod, lock *os.File) { write(t, p, ManifestFile, "{}"); lock.Close() }, "rkt rm "},
		Running: {func(p *Pod, _ *os.File) {
			write(t, p, ManifestFile, "{}")
			write(t, p, PIDFile, strconv.Itoa(os.Getpid())+"\n")
			write(t, p, StartedFile, "")
		}, "rkt stop "},
		Exited:        {exited, ""},
		ExitedGarbage: {func(p *Pod, lock *os.File) { exited(p, lock); write(t, p, GarbageFile, "") }, ""},
	} {
		pods := In(t.TempDir())
		first, lock := newNamed(t, pods, Claim{Name: "web.service"})
		c.bring(first, lock)
		if got, err := first.State(); err != nil || got != state {
			t.Fatalf("state %v, %v; want %v", got, err, state)
		}
		for _, name := range []string{"web.service", "web"} {
			uuid := NewUUID()
			second, lock, err := pods.CreateNamed(uuid, Claim{Name: name})
			if err == nil {
				lock.Close()
				os.RemoveAll(second.Dir())
			}
			if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), first.UUID) ||
				!strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v: a second pod %q: %v", state, name, err)
			}
			if _, err := os.Lstat((&Pod{uuid, pods}).Dir()); err == nil {
				t.Errorf("%v: the refused pod %q is there", state, name)
			}
		}
		if left, _ := os.ReadDir(pods.tmp()); len(left) != 0 {
			t.Errorf("%v: left in tmp: %v", state, left)
		}
		_, lock = newNamed(t, pods, Claim{Name: "web2"})
		lock.Close()
	}
}

// A pod has exited, and another program has its lock: it does not have its name any more.
func TestNameOfLockedExitedPod(t *testing.T) {
	pods := In(t.TempDir())
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	old, _ := newNamed(t, pods, Claim{Name: "web"})
	write(t, old, ManifestFile, "{}")
	write(t, old, PIDFile, strconv.Itoa(gone.Process.Pid)+"\n")
	write(t, old, StartedFile, "")
	if state, err := old.State(); err != nil || state != Exited {
		t.Fatalf("state %v, %v", state, err)
	}
	next, lock := newNamed(t, pods, Claim{Name: "web"})
	write(t, next, ManifestFile, "{}")
	lock.Close()
	if p, err := pods.Find("web", ""); err != nil || p.UUID != next.UUID {
		t.Errorf("%v, %v; want %s", p, err, next.UUID)
	}
}

// What a start of a service left prepared does not keep the next start from having the name; what
// is anybody else's does.
func TestNameOfFailedStart(t *testing.T) {
	const unit, one, two = "web.service", "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	for what, c := range map[string]struct {
		first, second Claim
		taken         bool
	}{
		"the next start": {Claim{Name: unit, Unit: unit, Start: one}, Claim{Name: unit, Unit: unit, Start: two},
			true},
		"with --pod-name": {Claim{Name: "x", Unit: unit, Start: one}, Claim{Name: "x", Unit: unit, Start: two},
			true},
		"the same start": {Claim{Name: "x", Unit: unit, Start: one}, Claim{Name: "x", Unit: unit, Start: one},
			false},
		"another service": {Claim{Name: "x", Unit: unit, Start: one}, Claim{Name: "x", Unit: "db.service",
			Start: two}, false},
		"by hand":                {Claim{Name: unit}, Claim{Name: unit, Unit: unit, Start: two}, false},
		"by hand, after a start": {Claim{Name: unit, Unit: unit, Start: one}, Claim{Name: unit}, false},
	} {
		pods := In(t.TempDir())
		first, lock := newNamed(t, pods, c.first)
		write(t, first, ManifestFile, "{}")
		lock.Close()
		var taken []string
		c.second.Taken = func(p *Pod) { taken = append(taken, p.UUID) }
		second, lock, err := pods.CreateNamed(NewUUID(), c.second)
		if err == nil {
			write(t, second, ManifestFile, "{}")
			lock.Close()
		}
		if (err == nil) != c.taken || (len(taken) == 1 && taken[0] == first.UUID) != c.taken {
			t.Errorf("%s: %v, taken from %q", what, err, taken)
		}
		want := first
		if c.taken {
			want = second
		}
		if p, err := pods.Find(c.first.Name, ""); err != nil || p.UUID != want.UUID {
			t.Errorf("%s: the name is that of %v, %v; want %s", what, p, err, want.UUID)
		}
	}
	// Who is about to start it keeps the name.
	pods := In(t.TempDir())
	first, lock := newNamed(t, pods, Claim{Name: unit, Unit: unit, Start: one})
	write(t, first, ManifestFile, "{}")
	_, _, err := pods.CreateNamed(NewUUID(), Claim{Name: unit, Unit: unit, Start: two})
	if lock.Close(); err == nil || first.Name() != unit {
		t.Errorf("taken from a pod that another program has locked: %v", err)
	}
}

// Who makes a pod for a service hears how many pods its earlier starts have left.
func TestNameLeft(t *testing.T) {
	pods, left := In(t.TempDir()), -1
	for i := range 4 {
		c := Claim{Name: "web.service", Unit: "web.service", Start: NewUUID(), Left: func(n int) { left = n }}
		if i == 3 {
			c.Unit = "other.service"
		}
		p, lock := newNamed(t, pods, c)
		write(t, p, ManifestFile, "{}")
		write(t, p, StartedFile, "")
		lock.Close()
		if want := []int{-1, 1, 2, 2}[i]; left != want {
			t.Errorf("start %d: %d pods are left, want %d", i, left, want)
		}
	}
}

// Of many that want a name at once, one gets it.
func TestNameRace(t *testing.T) {
	for range 20 {
		pods := In(t.TempDir())
		var all sync.WaitGroup
		start, got := make(chan bool), make(chan *os.File, 16)
		for range cap(got) {
			all.Go(func() {
				<-start
				if _, lock, err := pods.CreateNamed(NewUUID(), Claim{Name: "web"}); err == nil {
					got <- lock
				}
			})
		}
		close(start)
		all.Wait()
		close(got)
		if len(got) != 1 {
			t.Fatalf("%d pods have the name", len(got))
		}
		(<-got).Close()
	}
}

// Pods of one name that another program made are told apart by nobody but the user.
func TestAmbiguousName(t *testing.T) {
	pods := In(t.TempDir())
	a, b := prepared(t, pods, NewUUID(), "web"), prepared(t, pods, NewUUID(), "web.service")
	_, err := pods.Find("web", "")
	if !testkit.Says(err, a.UUID+" (prepared)") ||
		!strings.Contains(err.Error(), b.UUID+" (prepared)") {
		t.Errorf("%v", err)
	}
	if p, err := pods.Find("web.service", ""); err != nil || p.UUID != b.UUID {
		t.Errorf("%v, %v", p, err)
	}
}
