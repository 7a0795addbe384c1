package run

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/rkt-toolkit/rkt/lib/host/seccomp"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

// readFilter reads the pod's seccomp filter. A pod of a version of rkt that wrote none gets the
// strictest. With users of its own it gets the one under which a user namespace can be made; a pod
// of a version of rkt that wrote one filter has there the one for the users that it has.
func readFilter(p *poddir.Pod, users bool) ([]unix.SockFilter, error) {
	name := poddir.FilterFile
	if users {
		name = poddir.OwnFilter
	}
	text, err := p.ReadFile(name)
	if users && errors.Is(err, fs.ErrNotExist) {
		name = poddir.FilterFile
		text, err = p.ReadFile(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		filter, err := seccomp.Assemble(seccomp.Policy{UserNamespaces: users})
		if err != nil {
			return nil, err
		}
		text = seccomp.Marshal(filter)
	} else if err != nil {
		return nil, err
	}
	filter, err := seccomp.Unmarshal(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Path(name), err)
	}
	return filter, nil
}

// loadFilter puts the pod's seccomp filter on the calling thread.
func loadFilter(filter []unix.SockFilter) error {
	if err := leaveKeyring(); err != nil {
		return err
	}
	return seccomp.Load(filter)
}

// leaveKeyring gives the thread, and the pod, a session keyring of its own in the place of the
// host's. The filter would deny that to what the process becomes.
func leaveKeyring() error {
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	if err != nil && err != unix.ENOSYS && err != unix.EPERM && err != unix.EACCES { // this host has none
		return fmt.Errorf("session keyring: %w", err)
	}
	return nil
}
