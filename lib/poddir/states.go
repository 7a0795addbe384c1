package poddir

import "slices"

// State is what a pod's directory says of it. The caller must treat it as past: another program may
// change it at once.
type State int

// The states of a pod; their text is rkt's.
const (
	Preparing State = iota
	AbortedPrepare
	Prepared
	Running
	Exited
	ExitedGarbage
	Deleting
)

func (s State) String() string {
	return [...]string{"preparing", "aborted prepare", "prepared", "running", "exited", "exited garbage", "deleting"}[s]
}

// Ended reports whether the pod has run and does not run any more.
func (s State) Ended() bool { return s == Exited || s == ExitedGarbage }

// Lives reports whether somebody makes the pod or runs it at the moment.
func (s State) Lives() bool { return s == Preparing || s == Running }

// fact is what a state asks of one thing that can be seen of a pod.
type fact int

const (
	either fact = iota
	yes
	no
)

func (f fact) fits(is bool) bool { return f == either || (f == yes) == is }

// states is the one place where facts become a state: the first that fits. Deleting is not one of
// them: such a pod has left pods/.
var states = []struct {
	state                              State
	locked, manifest, started, garbage fact
}{
	{Preparing, yes, no, either, either},
	{AbortedPrepare, no, no, either, either},
	{Prepared, either, yes, no, either},
	{ExitedGarbage, either, yes, yes, yes}, // rkt-gc marks what has ended, whoever has its lock now
	{Running, yes, yes, yes, no},
	{Exited, no, yes, yes, no},
}

func stateOf(locked, manifest, started, garbage bool) State {
	for _, s := range states {
		if s.locked.fits(locked) && s.manifest.fits(manifest) && s.started.fits(started) && s.garbage.fits(garbage) {
			return s.state
		}
	}
	return Deleting // not reached: the table has all of them
}

// transition is a step of a pod's life: by is the program, how what it does to the directory.
type transition struct {
	from, to State
	by, how  string
}

// transitions are all there are; docs/pod-lifecycle.md shows them.
var transitions = []transition{
	{Preparing, Prepared, "rkt-prepare", "renames pod into place"},
	{Preparing, AbortedPrepare, "rkt-prepare", "is killed: the kernel unlocks"},
	{Preparing, Deleting, "rkt-prepare", "fails: takes it back"},
	{AbortedPrepare, Deleting, "rkt-gc", "renames it into garbage/"},
	{Prepared, Running, "rkt-run-prepared", "locks, writes started, becomes the pod's first process"},
	{Prepared, Deleting, "rkt-gc", "after --expire-prepared, or by name"},
	{Running, Exited, "its first process", "ends, whatever ends it: the kernel unlocks"},
	{Running, Prepared, "rkt-run-prepared", "cannot become that: removes started"},
	{Exited, ExitedGarbage, "rkt-gc", "writes garbage"},
	{Exited, Deleting, "rkt-gc", "by name"},
	{ExitedGarbage, Deleting, "rkt-gc", "after --grace-period, or by name"},
}

// May reports whether a pod can go from one state to another in one step.
func (s State) May(to State) bool {
	return slices.ContainsFunc(transitions, func(t transition) bool { return t.from == s && t.to == to })
}
