// Package sysctl sets the kernel parameters that a pod has for itself: those of its IPC namespace
// (ipc_namespaces(7)) and of its network namespace (network_namespaces(7)). Their names are those
// of sysctl(8).
package sysctl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/openat"
	"golang.org/x/sys/unix"
)

// ipc are the beginnings of the names of an IPC namespace's parameters, net that of a network
// namespace's.
var ipc = []string{"fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm"}

const net = "net."

// IsIPC reports whether a parameter is one of an IPC namespace.
func IsIPC(name string) bool {
	return slices.ContainsFunc(ipc, func(prefix string) bool { return strings.HasPrefix(Canonical(name), prefix) })
}

// IsNet reports whether a parameter is one of a network namespace.
func IsNet(name string) bool { return strings.HasPrefix(Canonical(name), net) }

// Check returns an error if a parameter is none that a pod has for itself, or can't be written.
func Check(name, value string) error {
	switch {
	case !IsIPC(name) && !IsNet(name):
		return errors.New("not one of a pod's own (net.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*)")
	case !filepath.IsLocal(path(name)) || filepath.Clean(path(name)) != path(name) || strings.ContainsRune(name, 0):
		return errors.New("not a name of sysctl(8)")
	case value == "" || strings.ContainsAny(value, "\x00\n"):
		return errors.New("not a value in one line")
	}
	return nil
}

// Canonical is a name with dots, whichever way it is written: of dots and slashes the first in it
// separates (sysctl.d(5)).
func Canonical(name string) string {
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '/' {
		return swap(name)
	}
	return name
}

// path is the parameter's file below /proc/sys.
func path(name string) string { return swap(Canonical(name)) }

func swap(name string) string { return strings.NewReplacer(".", "/", "/", ".").Replace(name) }

// Set writes parameters below the opened directory dir, a /proc/sys: of the calling thread's
// namespaces.
func Set(dir int, parameters map[string]string) error {
	for name, value := range parameters {
		if err := set(dir, name, value); err != nil {
			return fmt.Errorf("%s=%s: %w", name, value, err)
		}
	}
	return nil
}

func set(dir int, name, value string) error {
	fd, err := openat.FD(dir, path(name), unix.O_WRONLY, openat.NoLinks)
	if errors.Is(err, unix.ENOENT) {
		return errors.New("the kernel has no such parameter in a pod")
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	_, err = f.WriteString(value)
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		return pathErr.Err
	}
	return err
}
