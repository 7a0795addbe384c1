package stage1

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TmpfsAnnotation is the name of an annotation of an app in a pod's manifest: a JSON array of
// --tmpfs=DIR[:OPTIONS].
const TmpfsAnnotation = "coreos.com/rkt/stage2/tmpfs"

// tmpfsFlags are options of a --tmpfs that stand alone; the first of each row is the default.
var tmpfsFlags = [][]string{{"rw", "ro"}, {"nosuid", "suid"}, {"nodev"}, {"noexec", "exec"}}

// tmpfsOption are those with a value, as tmpfs(5) has them.
var tmpfsOption = regexp.MustCompile(`^(size=[1-9][0-9]*[kKmMgG%]?|mode=[0-7]{1,4}|(uid|gid)=[0-9]{1,` +
	`9}|nr_inodes=[1-9][0-9]*[kKmMgG]?)$`)

// ParseTmpfs reads DIR[:OPTION,…]. The directory is clean and absolute.
func ParseTmpfs(s string) (specs.Mount, error) {
	dir, list, _ := strings.Cut(s, ":")
	m := specs.Mount{Destination: dir, Type: "tmpfs", Source: "tmpfs"}
	if !path.IsAbs(dir) || path.Clean(dir) != dir || dir == "/" {
		return m, fmt.Errorf("%q is not an absolute path of a directory; write DIR[:size=64m,mode=1777,…]", dir)
	}
	given := []string{}
	if list != "" {
		given = strings.Split(list, ",")
	}
	for _, o := range given {
		isFlag := slices.ContainsFunc(tmpfsFlags, func(row []string) bool { return slices.Contains(row, o) })
		if !isFlag && !tmpfsOption.MatchString(o) {
			return m, fmt.Errorf("option %q is not one of size=64m, mode=1777, uid=N, gid=N, nr_inodes=N, ro, exec, "+
				"suid and their opposites", o)
		}
		if !isFlag {
			m.Options = append(m.Options, o)
		}
	}
	for _, row := range tmpfsFlags {
		i := max(0, slices.IndexFunc(row, func(o string) bool { return slices.Contains(given, o) }))
		if o := row[i]; strings.HasPrefix(o, "no") || o == "ro" {
			m.Options = append(m.Options, o)
		}
	}
	if !slices.ContainsFunc(given, func(o string) bool { return strings.HasPrefix(o, "mode=") }) {
		m.Options = append(m.Options, "mode=1777")
	}
	return m, nil
}

// ParseTmpfsList reads a TmpfsAnnotation; "" is none. A directory comes before those in it.
func ParseTmpfsList(text string) (mounts []specs.Mount, err error) {
	var list []string
	if text != "" {
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return nil, fmt.Errorf("%s: %w", TmpfsAnnotation, err)
		}
	}
	for _, s := range list {
		m, err := ParseTmpfs(s)
		if err == nil && slices.ContainsFunc(mounts, func(o specs.Mount) bool {
			return o.Destination == m.Destination
		}) {
			err = fmt.Errorf("%s is there twice", m.Destination)
		}
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	slices.SortFunc(mounts, func(a, b specs.Mount) int { return strings.Compare(a.Destination, b.Destination) })
	return mounts, nil
}

// tmpfsMounts are those of the app, and after them what lies in its root already and they would
// cover: volumes and credentials.
func (a App) tmpfsMounts(covered []string) []specs.Mount {
	mounts := slices.Clone(a.Tmpfs)
	for _, p := range covered {
		if coveredBy(a.Tmpfs, p) {
			mounts = append(mounts, shown(a.Name, p))
		}
	}
	return mounts
}

func coveredBy(tmpfs []specs.Mount, p string) bool {
	return slices.ContainsFunc(tmpfs, func(m specs.Mount) bool { return m.Type == "tmpfs" && IsIn(p, m.Destination) })
}

// shown is a mount of what an app's root has at a path on that path.
func shown(app, p string) specs.Mount {
	return specs.Mount{Destination: p, Type: "bind", Source: AppRoot(app) + p, Options: []string{"rbind"}}
}
