package network

import "path/filepath"

// PluginDirs are the directories of plugins, in order, for a toolkit whose programs are in bin: the
// toolkit's own, rkt's, Debian's, and the one that most others use.
func PluginDirs(bin string) []string {
	return []string{filepath.Join(bin, "../libexec/rkt/cni"), "/usr/lib/rkt/plugins/net", "/usr/lib/cni",
		"/opt/cni/bin"}
}
