// Package devfilter keeps the processes of a cgroup from all devices but those that a list of rules
// names, as Docker and systemd's DevicePolicy= do: by a BPF program on a cgroup of version 2, or by
// the devices controller of version 1. See cgroups(7), Documentation/admin-guide/cgroup-v2.rst
// ("Device controller") and cgroup-v1/devices.rst of Linux.
package devfilter

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Rule allows something of one device, or of all with a major number.
type Rule struct {
	Type         byte // 'c' for character devices, 'b' for block devices
	Major, Minor uint32
	AnyMinor     bool
	Access       string // letters: r for reading, w for writing, m for mknod(2)
}

// String is the rule as the devices controller of cgroup v1 reads it.
func (r Rule) String() string {
	minor := "*"
	if !r.AnyMinor {
		minor = strconv.FormatUint(uint64(r.Minor), 10)
	}
	return fmt.Sprintf("%c %d:%s %s", r.Type, r.Major, minor, r.Access)
}

// Of returns the rule that allows access to the device at a path. It is an error if no device is
// there.
func Of(path, access string) (Rule, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Rule{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	r := Rule{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev), Access: access}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		r.Type = 'c'
	case unix.S_IFBLK:
		r.Type = 'b'
	default:
		return Rule{}, fmt.Errorf("%s: not a device", path)
	}
	return r, nil
}

// ErrUnsupported says that the kernel was built without CONFIG_CGROUP_BPF, or that the process may
// not use it.
var ErrUnsupported = errors.New("the kernel has no device filters for cgroups (CONFIG_CGROUP_BPF)")

// Supported reports whether the kernel takes a filter with some rules.
func Supported(rules []Rule) bool {
	program, err := load(assemble(rules))
	if err != nil {
		return false
	}
	unix.Close(program)
	return true
}

// Attach puts a filter on the cgroup (version 2) of a directory. Filters of the groups above hold
// as well. The filter goes with the group. ErrUnsupported: see there.
func Attach(dir string, rules []Rule) error {
	group, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(group)
	program, err := load(assemble(rules))
	if err != nil {
		return err
	}
	defer unix.Close(program)
	if err := attach(group, program); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
}

// Limit sets the devices of a cgroup of the version 1 controller "devices" by its directory. The
// kernel refuses what the group above does not allow.
func Limit(dir string, rules []Rule) error {
	if err := os.WriteFile(filepath.Join(dir, "devices.deny"), []byte("a"), 0); err != nil {
		return err
	}
	for _, r := range rules {
		if err := os.WriteFile(filepath.Join(dir, "devices.allow"), []byte(r.String()), 0); err != nil {
			return fmt.Errorf("%s: %w", r, err)
		}
	}
	return nil
}

// access is a rule's access as the kernel has it (BPF_DEVCG_ACC_… in linux/bpf.h).
func (r Rule) access() (bits int32) {
	for letter, bit := range map[string]int32{"m": unix.BPF_DEVCG_ACC_MKNOD, "r": unix.BPF_DEVCG_ACC_READ,
		"w": unix.BPF_DEVCG_ACC_WRITE} {
		if strings.Contains(r.Access, letter) {
			bits |= bit
		}
	}
	return bits
}

// kind is a rule's type as the kernel has it (BPF_DEVCG_DEV_… in linux/bpf.h).
func (r Rule) kind() int32 {
	if r.Type == 'b' {
		return unix.BPF_DEVCG_DEV_BLOCK
	}
	return unix.BPF_DEVCG_DEV_CHAR
}
