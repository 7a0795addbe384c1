package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/userns"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"golang.org/x/sys/unix"
)

// usersOf is the pod's own range of user IDs; nil if it has the host's.
func usersOf(p *poddir.Pod) (*userns.Range, error) {
	text, err := p.ReadFile(poddir.UsersFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	users, err := userns.Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Path(poddir.UsersFile), err)
	}
	return &users, nil
}

// shifted is how a pod with a user namespace of its own sees files.
type shifted struct {
	userns.Range
	ns *os.File
}

// powerful are capabilities with which root of a pod that has the host's users gets out of it: by mounts and
// namespaces, by way of the pod's systemd, by the numbers of files, or by the kernel itself.
var powerful = []string{"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_BPF"}

// hostsRoot tells what an app amounts to that has such a capability in a pod with the host's users; "" is nothing.
func hostsRoot(apps []*app) string {
	for _, a := range apps {
		if a.prepared == nil || a.prepared.Process.Capabilities == nil {
			continue
		}
		for _, c := range powerful {
			if slices.Contains(a.prepared.Process.Capabilities.Bounding, c) {
				return fmt.Sprintf("app %q has %s, and the pod has the host's users: who takes over that app is root of the host; "+
					"--private-users makes it root of the pod", a.name, c)
			}
		}
	}
	return ""
}

// mountShifted is mountAll for such a pod. The image store and the pod's files are mounted over themselves, shifted, so that whatever
// comes from there is.
func mountShifted(p *poddir.Pod, apps []*app, o Options, users *userns.Range) error {
	ns, err := users.Open()
	if err != nil {
		return err
	}
	defer ns.Close()
	dirs := []string{filepath.Join(p.DataDir(), "cas")}
	for _, name := range []string{poddir.RootDir, poddir.ConfigDir, "overlay", poddir.VolumesDir} {
		if info, err := os.Lstat(p.Path(name)); err == nil && info.IsDir() {
			dirs = append(dirs, p.Path(name))
		}
	}
	for _, dir := range dirs {
		if err := userns.Over(dir, ns); err != nil {
			return fmt.Errorf("user namespace: %w", err)
		}
	}
	err = users.As(func() error { // systemd-nspawn would try so as a user that can own nothing here
		return os.MkdirAll(p.Path(filepath.Join(poddir.RootDir, "var/log/journal", strings.ReplaceAll(p.UUID, "-", ""))), 0o755)
	})
	if err != nil {
		return err
	}
	return mountAll(p, apps, o, &shifted{*users, ns})
}

// enterNetwork moves the calling thread, and the program that it executes, into the pod's network namespace.
func enterNetwork(p *poddir.Pod) error {
	path, err := namespace(p)
	if err != nil || path == "" {
		return err
	}
	ns, err := os.Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
