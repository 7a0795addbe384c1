package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/overlay"
	"github.com/rkt-toolkit/rkt/lib/pod"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// mountAll makes the pod's mounts in the mount namespace that the calling thread has to itself, and gives the apps the files in which
// they look names up.
func mountAll(p *pod.Pod, o Options) error {
	names, err := readNames(p, o.Hostname)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(p.Path(pod.MountsFile))
	if err != nil {
		return err
	}
	binds, err := parseMounts(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", p.Path(pod.MountsFile), err)
	}
	for _, b := range binds {
		if err := b.mount(p.Dir()); err != nil {
			return err
		}
	}
	apps, err := os.ReadDir(p.Path("overlay"))
	if err != nil {
		return err
	}
	for _, app := range apps {
		root := p.Path(pod.RootDir + stage1.AppRoot(app.Name()))
		if err := overlay.Mount(p.Path("overlay/"+app.Name()), root); err != nil {
			return err
		}
		if err := mountDev(root, o.Interactive); err != nil {
			return err
		}
		if err := names.give(root); err != nil {
			return fmt.Errorf("app %q: %w", app.Name(), err)
		}
	}
	return nspawnRuntime()
}

// bind is a line of the file "mounts".
type bind struct {
	source, target      string // the target is relative to the pod's directory
	recursive, readOnly bool
}

// parseMounts reads fstab(5) lines whose type is none and whose options are bind or rbind, and ro.
func parseMounts(text string) ([]bind, error) {
	var binds []bind
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 4 || f[2] != "none" {
			return nil, fmt.Errorf("line %q: not a bind mount", strings.TrimSpace(line))
		}
		b := bind{source: unescape(f[0]), target: unescape(f[1])}
		options := strings.Split(f[3], ",")
		b.recursive, b.readOnly = slices.Contains(options, "rbind"), slices.Contains(options, "ro")
		if !filepath.IsAbs(b.source) || !filepath.IsLocal(b.target) {
			return nil, fmt.Errorf("line %q: leaves the pod", strings.TrimSpace(line))
		}
		binds = append(binds, b)
	}
	return binds, nil
}

// unescape undoes fstab's \040 for a space.
func unescape(field string) string {
	parts := strings.Split(field, `\`)
	for i, part := range parts[1:] {
		if len(part) >= 3 {
			if c, err := strconv.ParseUint(part[:3], 8, 8); err == nil {
				parts[i+1] = string([]byte{byte(c)}) + part[3:]
				continue
			}
		}
		parts[i+1] = `\` + part
	}
	return strings.Join(parts, "")
}

// mount clones the source's mounts, makes all of them read-only if asked, and only then puts them in place.
func (b bind) mount(podDir string) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_NO_AUTOMOUNT)
	attr := uint(unix.AT_EMPTY_PATH)
	if b.recursive {
		flags |= unix.AT_RECURSIVE
		attr |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, b.source, flags)
	if err != nil {
		return fmt.Errorf("bind mount of %s: %w", b.source, err)
	}
	defer unix.Close(tree)
	if b.readOnly {
		if err := unix.MountSetattr(tree, "", attr, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return fmt.Errorf("read-only bind mount of %s: %w", b.source, err)
		}
	}
	target := filepath.Join(podDir, b.target)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("bind mount of %s on %s: %w", b.source, target, err)
	}
	return nil
}

// nspawnRuntime gives systemd-nspawn a tmpfs for what it keeps under /run where the host's own /run is none: it refuses to remove
// anything from a file system on a disk, complains, and leaves a folder for each pod.
func nspawnRuntime() error {
	var st unix.Statfs_t
	if err := unix.Statfs("/run", &st); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("/run: %w", err)
	}
	if st.Type == unix.TMPFS_MAGIC {
		return nil
	}
	const dir = "/run/systemd/nspawn"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("tmpfs on %s: %w", dir, err)
	}
	return nil
}
