package run

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"golang.org/x/sys/unix"
)

// A slave volume is one in which what the host mounts later appears. systemd-nspawn 257 and later make all mounts of a
// pod private, except those that they make themselves: so it is told to mount such a volume from slavesDir of its own
// root to podSlavesDir of the pod's, and rkt-stage2 mounts it in the app's root from there.
const slavesDir, podSlavesDir = treeDir + "/volumes/", "/rkt/volumes/"

// slave is such a volume.
type slave struct {
	source string // on the host
	at     string // in the root of systemd-nspawn
}

// isSlave reports whether a volume of an app is one. In a pod with users of its own none is: what arrives there would
// have the host's users. In one that an older rkt prepared rkt-run-prepared mounts it.
func isSlave(b fstab.Bind, a *app, ownUsers bool) bool {
	return b.Slave && a.prepared != nil && !ownUsers
}

// slaves has the apps get their slave volumes, and returns these and arguments of systemd-nspawn. A mount inside such a
// volume is made again in it.
func slaves(p *poddir.Pod, apps []*app, ownUsers bool) (list []slave, options []string, err error) {
	text, err := p.ReadFile(poddir.MountsFile)
	if err != nil {
		return nil, nil, err
	}
	binds, err := fstab.Parse(string(text))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", p.Path(poddir.MountsFile), err)
	}
	for _, a := range apps {
		var outer []string
		for _, b := range binds {
			name, target, ok := inApp(b.Target)
			if !ok || name != a.name {
				continue
			}
			mount := specs.Mount{Destination: target, Type: "bind", Options: []string{"rbind"}}
			switch {
			case isSlave(b, a, ownUsers):
				n := strconv.Itoa(len(list))
				list = append(list, slave{b.Source, slavesDir + n})
				options = append(options, "--bind="+slavesDir+n+":"+podSlavesDir+n)
				outer, mount.Source = append(outer, target), podSlavesDir+n
				if b.ReadOnly {
					mount.Options = append(mount.Options, "ro")
				}
				if b.NoDev {
					mount.Options = append(mount.Options, "nodev")
				}
			case isInside(target, outer):
				mount.Source = a.prepared.Root.Path + target
			default:
				continue
			}
			a.final.Mounts = append(a.final.Mounts, mount)
		}
		for _, name := range slices.Sorted(maps.Keys(a.secrets)) {
			if to := a.secrets[name].target; to != "" && isInside(to, outer) {
				mount := specs.Mount{Destination: to, Type: "bind", Source: a.prepared.Root.Path + to}
				a.final.Mounts = append(a.final.Mounts, mount)
			}
		}
	}
	return list, options, nil
}

func isInside(target string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return isBelow(target, path.Clean(dir)) })
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
