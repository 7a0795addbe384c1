package prepare

import (
	"os"
	"sync"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/host/userns"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// newPod makes a pod that is being prepared.
func newPod(t *testing.T, pods poddir.Pods) *poddir.Pod {
	t.Helper()
	p, lock, err := pods.Create(poddir.NewUUID())
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	return p
}

// Pods have ranges of their own, of the lowest; one that has ended leaves its to others.
func TestReserve(t *testing.T) {
	pods := poddir.In(t.TempDir())
	give := func(files ...string) userns.Range {
		t.Helper()
		p := newPod(t, pods)
		if err := reserve(p, pods, poddir.Reserved{Mode: poddir.UsersAuto}); err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if err := os.WriteFile(p.Path(name), []byte("{}\n"), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		r, err := p.Reserved()
		if err != nil || r == nil {
			t.Fatal(r, err)
		}
		return r.Range
	}
	seen := map[userns.Range]bool{}
	for range 20 {
		r := give(poddir.ManifestFile)
		if seen[r] {
			t.Fatalf("%s is another prepared pod's", r)
		}
		seen[r] = true
	}
	used := map[userns.Range]bool{}
	for range 60 {
		r := give(poddir.ManifestFile, poddir.StartedFile)
		if seen[r] {
			t.Fatalf("%s is a prepared pod's", r)
		}
		used[r] = true
	}
	if len(used) > 3*starts {
		t.Errorf("60 pods, one after the other, had %d ranges", len(used))
	}
}

// Many at once have each their own.
func TestManyReserve(t *testing.T) {
	eachItsOwn(t, func(p *poddir.Pod, pods poddir.Pods) error {
		return reserve(p, pods, poddir.Reserved{Mode: poddir.UsersOwn})
	}, rangeOf)
}

// eachItsOwn has many pods reserve something at once, of which no two may have the same.
func eachItsOwn[K comparable](t *testing.T, reserve func(*poddir.Pod, poddir.Pods) error,
	of func(*poddir.Pod) (K, bool)) {
	t.Helper()
	pods := poddir.In(t.TempDir())
	all := make([]*poddir.Pod, many)
	for i := range all {
		all[i] = newPod(t, pods)
	}
	var wait sync.WaitGroup
	for _, p := range all {
		wait.Go(func() {
			if err := reserve(p, pods); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	seen := map[K]bool{}
	for _, p := range all {
		key, ok := of(p)
		if !ok || seen[key] {
			t.Errorf("%v, %v: another pod's", key, ok)
			continue
		}
		seen[key] = true
	}
}

const many = 20
