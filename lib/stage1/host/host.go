// Package host is the flavor "host": the PID 1 of a pod is a systemd in systemd-nspawn, both from a
// private copy of the host's (see package systree), so that there is nothing to download. What is
// pure here is pure: the root of the pod's systemd with its unit files, and the command line of
// systemd-nspawn.
package host

import "github.com/rkt-toolkit/rkt/lib/stage1"

// Flavor is a stage1.Flavor.
type Flavor struct{}

var _ stage1.Flavor = Flavor{}
