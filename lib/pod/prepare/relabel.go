package prepare

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/rkt-toolkit/rkt/lib/host/selinux"
)

// relabel is whose context a volume is to get on a host with SELinux; "" leaves it as it is.
type relabel string

const (
	relabelShared  relabel = "shared"  // one that the apps of all pods may use: Docker's z
	relabelPrivate relabel = "private" // the pod's own: Z
)

// keptDirs are directories of a host that stop working with the context of a container's files.
var keptDirs = []string{
	"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt", "/opt", "/proc",
	"/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/sbin",
	"/usr/share", "/var", "/var/cache", "/var/lib", "/var/log", "/var/run", "/var/spool", "/var/tmp",
}

// relabelVolumes gives the volumes that are to have one a context of the pod's files.
func (s *storage) relabelVolumes() error {
	if s.labels == nil {
		return nil
	}
	for _, source := range slices.Sorted(maps.Keys(s.relabel)) {
		dir, err := filepath.EvalSymlinks(source)
		if err != nil {
			return fmt.Errorf("volume %s: %w", source, err)
		}
		if slices.Contains(keptDirs, dir) {
			return fmt.Errorf("volume %s: with another SELinux context (z, Z, relabel=) the host could not use it; "+
				"mount a directory in it, or use --selinux=no", source)
		}
		c := s.labels.File
		if s.relabel[source] == relabelShared {
			c = shared(c)
		}
		if err := selinux.SetTree(dir, c); err != nil {
			return fmt.Errorf("volume %s: %w", source, err)
		}
	}
	return nil
}

// shared is a context of files without categories.
func shared(c selinux.Context) selinux.Context {
	c.Level = c.Sensitivity()
	return c
}
