package prepare

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/rkt-toolkit/rkt/lib/host/userns"
	"github.com/rkt-toolkit/rkt/lib/poddir"
)

// errNoRange is that every range is somebody's.
var errNoRange = errors.New("no range of 65536 user IDs is free between 524288 and 1879048191 " +
	"(see /etc/subuid, /etc/subgid and the pods of rkt list)")

// reserveUsers gives a pod a range of user IDs that it may have for itself; whether it will,
// rkt-run-prepared decides. A pod that is to have the host's users gets none.
func reserveUsers(p *poddir.Pod, pods poddir.Pods, o Options) error {
	if !o.Flavor.Features().Users {
		if o.Users == poddir.UsersOwn {
			return fmt.Errorf("--private-users=yes: pods of flavor %s have the host's users", o.Flavor.Name())
		}
		return nil
	}
	if o.Users == poddir.UsersHost {
		return nil
	}
	err := reserve(p, pods, poddir.Reserved{Mode: o.Users, Asked: rawNetwork(o.Apps)})
	switch {
	case errors.Is(err, errNoRange) && o.Users == poddir.UsersOwn:
		return fmt.Errorf("--private-users: %w", err)
	case errors.Is(err, errNoRange):
		o.Warn("root in the pod is root on the host, because " + err.Error() + "; ask for that with --private-users=no")
		return os.Remove(p.Path(poddir.ReservedFile))
	}
	return err
}

// rawNetwork is CAP_NET_RAW if a flag names it: every app has it, and who asks for it wants it to
// have an effect.
func rawNetwork(apps []App) []string {
	const name = "CAP_NET_RAW"
	if slices.ContainsFunc(apps, func(a App) bool {
		return slices.Contains(spelt(slices.Concat(a.CapAdd, a.CapsRetain)), name)
	}) {
		return []string{name}
	}
	return nil
}

// starts is among how many of the lowest ranges the search begins. Pods take the lowest that are
// free, since journald keeps a file of 8 MiB for each user that it has ever seen and that is not
// the system's (journald.conf(5), SplitMode=): with random ranges every start of a service would
// leave one.
const starts = 4

// reserve finds a range that no other pod has, and nobody else on the host, and notes it. Who sees
// another pod with the same range gives way, so that of two at the same moment at least one does.
func reserve(p *poddir.Pod, pods poddir.Pods, r poddir.Reserved) error {
	taken, err := userns.Taken("/")
	if err != nil {
		return err
	}
	others := othersThan(p, rangeOf)
	if err := others.read(pods); err != nil {
		return err
	}
	skip := 0
	for r.Range = range userns.Free(rand.Uint32N(starts), taken) {
		if skip--; skip >= 0 || isTaken(others.pods[r.Range]) {
			continue
		}
		if userns.OfContainer(r.Range) {
			continue
		}
		if err := os.WriteFile(p.Path(poddir.ReservedFile), []byte(r.String()), 0o600); err != nil {
			return err
		}
		if err := others.read(pods); err != nil {
			return err
		}
		if !isTaken(others.pods[r.Range]) {
			return nil
		}
		skip = rand.IntN(2 * starts) // the other one has seen this pod, too
	}
	return errNoRange
}

// rangeOf is the range of a pod.
func rangeOf(p *poddir.Pod) (userns.Range, bool) {
	if reserved, err := p.Reserved(); err == nil && reserved != nil {
		return reserved.Range, true
	}
	if own, err := p.Users(); err == nil && own != nil { // an older rkt prepared it
		return *own, true
	}
	return userns.Range{}, false
}

// isTaken reports whether one of the pods has not ended. Nothing on a disk belongs to the users of
// one that has.
func isTaken(pods []*poddir.Pod) bool {
	return slices.ContainsFunc(pods, func(p *poddir.Pod) bool {
		state, err := p.State()
		return err == nil && !state.Ended()
	})
}
