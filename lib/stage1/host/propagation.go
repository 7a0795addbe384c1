package host

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// A slave volume is one in which what the host mounts later appears. systemd-nspawn 257 and later
// make all mounts of a pod private, except those that they make themselves: so it is told to mount
// such a volume from slavesDir of its own root to podSlavesDir of the pod's, and rkt-stage2 mounts
// it in the app's root from there.
const slavesDir, podSlavesDir = treeDir + "/volumes/", "/rkt/volumes/"

// slave is such a volume.
type slave struct {
	source string // on the host
	at     string // in the root of systemd-nspawn
}

// isSlave reports whether a volume of an app is one. In a pod with users of its own none is: what
// arrives there would have the host's users. In one that an older rkt prepared rkt-run-prepared
// mounts it.
func isSlave(b fstab.Bind, a *stage1.Starting, ownUsers bool) bool {
	return b.Slave && a.Prepared != nil && !ownUsers
}

// placeSlaves has the apps get their slave volumes, notes these, and returns arguments of
// systemd-nspawn. A mount inside such a volume is made again in it.
func (s *starting) placeSlaves() (options []string) {
	for _, a := range s.Apps {
		var outer []string
		for _, b := range s.Binds {
			name, target, ok := poddir.InApp(b.Target)
			if !ok || name != a.Name {
				continue
			}
			mount := specs.Mount{Destination: target, Type: "bind", Options: []string{"rbind"}}
			switch {
			case isSlave(b, a, s.Users != nil):
				n := strconv.Itoa(len(s.slaves))
				s.slaves = append(s.slaves, slave{b.Source, slavesDir + n})
				options = append(options, "--bind="+slavesDir+n+":"+podSlavesDir+n)
				outer, mount.Source = append(outer, target), podSlavesDir+n
				if b.ReadOnly {
					mount.Options = append(mount.Options, "ro")
				}
				if b.NoDev {
					mount.Options = append(mount.Options, "nodev")
				}
			case isInside(target, outer):
				mount.Source = a.Prepared.Root.Path + target
			default:
				continue
			}
			a.Final.Mounts = append(a.Final.Mounts, mount)
		}
		for _, to := range a.Secrets {
			if isInside(to, outer) {
				mount := specs.Mount{Destination: to, Type: "bind", Source: a.Prepared.Root.Path + to}
				a.Final.Mounts = append(a.Final.Mounts, mount)
			}
		}
	}
	return options
}

func isInside(target string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return stage1.IsIn(target, path.Clean(dir)) })
}

// trees are slave volumes, opened: mounted nowhere, with all that is mounted below them.
type trees []int

// openAll opens volumes in a mount namespace in which mounts of the host arrive.
func openAll(slaves []slave) (list trees, err error) {
	const flags = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_NO_AUTOMOUNT | unix.AT_RECURSIVE
	for _, s := range slaves {
		tree, err := unix.OpenTree(unix.AT_FDCWD, s.source, flags)
		if err != nil {
			return list, fmt.Errorf("bind mount of %s: %w", s.source, err)
		}
		list = append(list, tree)
	}
	return list, nil
}

// mount mounts the volumes where systemd-nspawn looks for them.
func (list trees) mount(slaves []slave) error {
	for i, s := range slaves {
		if err := os.MkdirAll(s.at, 0o755); err != nil {
			return err
		}
		if err := unix.MoveMount(list[i], "", unix.AT_FDCWD, s.at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("bind mount of %s: %w", s.source, err)
		}
	}
	return nil
}

func (list trees) close() {
	for _, tree := range list {
		unix.Close(tree)
	}
}
