package host

import "github.com/rkt-toolkit/rkt/lib/stage1/host/systree"

// NspawnFile is the pod's own systemd-nspawn, seen by its systemd.
const NspawnFile = "/usr/bin/systemd-nspawn"

// Programs are the files of the host that a pod consists of besides its apps, nspawn being the
// host's systemd-nspawn: systemd, and what that starts of itself. Everything else that a unit of a
// pod starts is a program of rkt, below /rkt: there is no shell and no other tool of the host's in
// a pod.
func Programs(nspawn string) []systree.Program {
	return []systree.Program{
		{Path: NspawnFile, Source: nspawn},
		{Path: "/usr/lib/os-release"}, // by which systemd-nspawn knows the root of a system
		{Path: "/usr/lib/systemd/systemd"},
		{Path: "/usr/lib/systemd/systemd-executor", Optional: true}, // since systemd 255
		{Path: "/usr/lib/systemd/systemd-journald"},
		{Path: "/usr/lib/systemd/systemd-shutdown"}, // the pod's systemd becomes it at the end
	}
}
