package prepare

import (
	"os"

	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// reservations are what the other pods have of something of which each pod is to have its own.
// Whoever reserves notes what it takes in its pod first and then looks whether another pod has the
// same: if so, it gives way, so that of two at the same moment at least one does.
type reservations[K comparable] struct {
	pods    map[K][]*poddir.Pod
	settled map[string]bool // pods, by UUID, that will not take another; they need not be read again
	of      func(*poddir.Pod) (K, bool)
}

// othersThan is for a pod that is being prepared. of gives what a pod has.
func othersThan[K comparable](p *poddir.Pod, of func(*poddir.Pod) (K, bool)) *reservations[K] {
	return &reservations[K]{map[K][]*poddir.Pod{}, map[string]bool{p.UUID: true}, of}
}

// read adds the pods that have come, or may have taken another. What of a pod can't be read is that
// pod's matter.
func (r *reservations[K]) read(pods poddir.Pods) error {
	all, err := pods.All()
	if err != nil {
		return err
	}
	for _, p := range all {
		if r.settled[p.UUID] {
			continue
		}
		// the last file that rkt-prepare writes; so it is looked for first
		_, err := os.Lstat(p.Path(poddir.ManifestFile))
		r.settled[p.UUID] = err == nil
		if key, ok := r.of(p); ok {
			r.pods[key] = append(r.pods[key], p)
		}
	}
	return nil
}
