package initflavor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// diskOf is the disk that a path is on, MAJOR:MINOR, as io.max takes it: a whole disk.
func diskOf(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", err
	}
	device := st.Dev
	if unix.Major(device) == 0 { // a file system that may have several devices, or none
		source, err := sourceOf(path)
		if err != nil {
			return "", err
		}
		if err := unix.Stat(source, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
			return "", fmt.Errorf("%s: is on no disk", path)
		}
		device = st.Rdev
	}
	return wholeDisk("/sys", fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device)))
}

// sourceOf is the source of the mount that a path is in.
func sourceOf(path string) (string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return "", err
	}
	longest := &mountinfo.Info{}
	for _, m := range mounts {
		if len(m.Mountpoint) >= len(longest.Mountpoint) {
			longest = m
		}
	}
	return longest.Source, nil
}

// wholeDisk is the disk of a block device, by a sysfs: the one below a device of device-mapper that
// has no other, and the one of a partition.
func wholeDisk(sys, device string) (string, error) {
	for range 16 {
		dir, err := filepath.EvalSymlinks(filepath.Join(sys, "dev/block", device))
		if err != nil {
			return "", err
		}
		below, _ := os.ReadDir(filepath.Join(dir, "slaves"))
		switch _, err := os.Stat(filepath.Join(dir, "partition")); {
		case len(below) == 1:
			dir = filepath.Join(dir, "slaves", below[0].Name())
		case err == nil:
			dir = filepath.Dir(dir)
		default:
			return device, nil
		}
		text, err := os.ReadFile(filepath.Join(dir, "dev"))
		if err != nil {
			return "", err
		}
		device = strings.TrimSpace(string(text))
	}
	return "", fmt.Errorf("device %s: too many devices below each other", device)
}
