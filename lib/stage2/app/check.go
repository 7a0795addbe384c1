package app

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// check refuses a configuration that is incomplete, of another version, or asks for what this
// program does not do.
func check(c *specs.Spec) error {
	if major, _, _ := strings.Cut(c.Version, "."); major != "1" {
		return fmt.Errorf("ociVersion %q: not version 1 of an OCI runtime configuration", c.Version)
	}
	if c.Process == nil || c.Root == nil || c.Linux == nil {
		return errors.New("has no process, no root, or no linux part")
	}
	for _, unknown := range []struct {
		name string
		is   bool
	}{
		{"domainname", c.Domainname != ""}, {"hooks", c.Hooks != nil}, {"solaris", c.Solaris != nil},
		{"windows", c.Windows != nil},
		{"vm", c.VM != nil}, {"zos", c.ZOS != nil},
		{"process.consoleSize", c.Process.ConsoleSize != nil}, {"process.commandLine", c.Process.CommandLine != ""},
		{"process.scheduler", c.Process.Scheduler != nil}, {"process.ioPriority", c.Process.IOPriority != nil},
		{"process.execCPUAffinity", c.Process.ExecCPUAffinity != nil},
		{"process.user.username", c.Process.User.Username != ""},
		{"linux.uidMappings", c.Linux.UIDMappings != nil}, {"linux.gidMappings", c.Linux.GIDMappings != nil},
		{"linux.resources", c.Linux.Resources != nil},
		{"linux.cgroupsPath", c.Linux.CgroupsPath != ""},
		{"linux.rootfsPropagation", c.Linux.RootfsPropagation != ""},
		{"linux.intelRdt", c.Linux.IntelRdt != nil}, {"linux.personality", c.Linux.Personality != nil},
		{"linux.timeOffsets", c.Linux.TimeOffsets != nil},
	} {
		if unknown.is {
			return fmt.Errorf("%s: not supported", unknown.name)
		}
	}
	namespaces := []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}
	if n := len(c.Linux.Namespaces); n < 1 || n > 2 || !slices.Equal(c.Linux.Namespaces, namespaces[:n]) {
		return errors.New("linux.namespaces: not a new mount namespace, and a new PID namespace at most")
	}
	return checkProcess(c)
}

func checkProcess(c *specs.Spec) error {
	p := c.Process
	if len(p.Args) == 0 || p.Args[0] == "" {
		return errors.New("process.args: names no program")
	}
	paths := append([]string{c.Root.Path, p.Cwd}, slices.Concat(c.Linux.MaskedPaths, c.Linux.ReadonlyPaths)...)
	for _, d := range c.Linux.Devices {
		if _, ok := nodeTypes[d.Type]; !ok || d.Major < 0 || d.Minor < 0 || d.Major > math.MaxUint32 ||
			d.Minor > math.MaxUint32 {
			return fmt.Errorf("linux.devices: %q: type %q, number %d:%d: not a device", d.Path, d.Type,
				d.Major, d.Minor)
		}
		paths = append(paths, d.Path)
	}
	for _, m := range c.Mounts {
		paths = append(paths, m.Destination)
	}
	for _, file := range paths {
		if !path.IsAbs(file) {
			return fmt.Errorf("%q: not an absolute path", file)
		}
	}
	for _, v := range p.Env {
		if i := strings.IndexByte(v, '='); i < 1 {
			return fmt.Errorf("process.env: %q: not NAME=VALUE", v)
		}
	}
	if slices.Contains(append(slices.Clone(p.User.AdditionalGids), p.User.UID, p.User.GID), math.MaxUint32) {
		// "unchanged" to setresuid(2)
		return errors.New("process.user: an ID that is none")
	}
	if p.Capabilities == nil {
		return errors.New("process.capabilities: none are said, not even an empty list")
	}
	return nil
}
