// Package cgroup makes cgroups where no systemd does. See cgroups(7).
package cgroup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Own lists the directories of the process's own groups: in the unified hierarchy, and in systemd's
// named one where that is mounted. There is none where no such hierarchy is mounted.
func Own() ([]string, error) { return Of(os.Getpid()) }

// Of lists the same of another process, which must not be in a namespace that hides them.
func Of(pid int) ([]string, error) { return groups(pid, Unified, systemd) }

// The hierarchies that are asked for, as /proc/PID/cgroup has them.
const (
	Unified = ""             // version 2
	Devices = "devices"      // the controller of version 1
	systemd = "name=systemd" // version 1, without a controller
)

// In returns the directory of the process's own group in one hierarchy, "" where that is not
// mounted.
func In(hierarchy string) (string, error) {
	dirs, err := groups(os.Getpid(), hierarchy)
	if err != nil || len(dirs) == 0 {
		return "", err
	}
	return dirs[0], nil
}

func groups(pid int, hierarchies ...string) ([]string, error) {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, err
	}
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer table.Close()
	return parse(string(groups), table, hierarchies...)
}

// parse lists the directories of a process's groups in some hierarchies, by its /proc/PID/cgroup
// and a mountinfo.
func parse(groups string, table io.Reader, hierarchies ...string) (dirs []string, err error) {
	mounts, err := mountinfo.GetMountsFromReader(table, mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("mountinfo: %w", err)
	}
	for line := range strings.Lines(groups) { // hierarchy-ID:controllers:path
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 || !slices.Contains(hierarchies, f[1]) || strings.HasPrefix(f[2], "/..") {
			// outside of the namespace
			continue
		}
		at := slices.IndexFunc(mounts, func(m *mountinfo.Info) bool {
			if f[1] == Unified {
				return m.FSType == "cgroup2"
			}
			return m.FSType == "cgroup" && slices.Contains(strings.Split(m.VFSOptions, ","), f[1])
		})
		if at >= 0 {
			m := mounts[at]
			dirs = append(dirs, filepath.Join(m.Mountpoint, strings.TrimPrefix(f[2], strings.TrimSuffix(m.Root, "/"))))
		}
	}
	return dirs, nil
}

// MountUnified mounts the hierarchy of version 2 at a directory, which it makes, unless it is
// mounted somewhere. On a host with version 1 it has the controllers that no hierarchy there has.
func MountUnified(dir string) error {
	there, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil || len(there) > 0 {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("cgroup2", dir, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount cgroups of version 2 at %s: %w", dir, err)
	}
	return nil
}

// HasUnified reports whether the kernel has the hierarchy of version 2, mounted or not.
func HasUnified() bool {
	text, err := os.ReadFile("/proc/filesystems")
	return err == nil && slices.Contains(strings.Fields(string(text)), "cgroup2")
}

// Make makes groups with these directories, unless they are there. Everybody may look into them,
// whatever the umask.
func Make(dirs ...string) error {
	for _, dir := range dirs {
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			err = os.Chmod(dir, 0o755)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// Controllers lists those that a group of version 2 may have, by its directory.
func Controllers(dir string) []string {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text))
}

// Enable has the groups below one have a controller.
func Enable(dir, controller string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0)
}

// Below lists the directories of groups of that name below the process's own, whether they are
// there or not.
func Below(name string) ([]string, error) {
	parents, err := Own()
	for i, parent := range parents {
		parents[i] = filepath.Join(parent, name)
	}
	return parents, err
}

// Enter moves a process into the groups at dirs.
func Enter(dirs []string, pid int) error {
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return err
		}
	}
	return nil
}

// Remove removes a group and those below it. It waits for up to wait until the kernel has let go of
// their last processes.
func Remove(dir string, wait time.Duration) (err error) {
	for end := time.Now().Add(wait); ; time.Sleep(5 * time.Millisecond) {
		var below []string
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				below = append(below, path)
			}
			return nil
		})
		err = nil
		for i := len(below) - 1; i >= 0; i-- {
			err = unix.Rmdir(below[i])
		}
		if err == nil || err == unix.ENOENT {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("cgroup %s: %w", dir, err)
		}
	}
}

// RemoveEmpty removes the groups of that name below the process's own, and those below them, if no
// process is in any of them. None that is there is no error.
func RemoveEmpty(name string) error {
	dirs, err := Below(name)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if !empty(dir) {
			continue
		}
		if err := Remove(dir, 0); err != nil && !errors.Is(err, unix.EBUSY) { // a process has come
			return err
		}
	}
	return nil
}

// HasProcess reports whether a process is in a group of systemd's, by its path in systemd's
// hierarchy, or in one below it.
func HasProcess(group string) bool {
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		if processes, _ := below(filepath.Join(root, group)); len(processes) > 0 {
			return true
		}
	}
	return false
}

// empty reports whether a group is there and neither it nor one below it has a process.
func empty(dir string) bool {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return err
		}
		processes, err := os.ReadFile(path)
		if err == nil && len(processes) > 0 {
			err = unix.EBUSY
		}
		return err
	})
	return err == nil
}

// Kill kills all processes in a group and in those below it. It tries for some seconds where the
// kernel has no cgroup.kill and new processes appear faster than it kills them.
func Kill(dir string) error {
	file, err := os.OpenFile(filepath.Join(dir, "cgroup.kill"), os.O_WRONLY, 0)
	if err == nil {
		defer file.Close()
		_, err = file.WriteString("1")
		return err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		processes, err := below(dir)
		if err != nil || len(processes) == 0 {
			return err
		}
		for _, pid := range processes {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
				return fmt.Errorf("process %d: %w", pid, err)
			}
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("cgroup %s: processes appear faster than they can be killed", dir)
}

// Processes lists the processes in a group and in those below it, the oldest number first.
func Processes(dir string) ([]int, error) {
	pids, err := below(dir)
	slices.Sort(pids)
	return pids, err
}

// below lists the processes in a group and in those below it.
func below(dir string) (processes []int, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				processes = append(processes, pid)
			}
		}
		return err
	})
	return processes, err
}

// OfUnit lists the groups that a unit of the pod's systemd has below a slice, whether they are
// there or not. The process must be in a unit that is in no slice.
func OfUnit(slice, unit string) ([]string, error) {
	own, err := Own()
	if err != nil {
		return nil, err
	}
	return Unit(own, slice, unit), nil
}

// Unit is OfUnit for groups, by their directories, that are those of a unit in no slice. It tries
// both names that a group can have: one that would mean something to the kernel has a "_" in front
// (systemd's cg_escape).
func Unit(own []string, slice, unit string) (dirs []string) {
	for _, dir := range own {
		for _, name := range []string{unit, "_" + unit} {
			dirs = append(dirs, filepath.Join(filepath.Dir(dir), slice, name))
		}
	}
	return dirs
}
