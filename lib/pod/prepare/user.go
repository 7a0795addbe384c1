package prepare

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/overlay"
)

// identity is who an app runs as.
type identity struct {
	uid, gid          uint32
	name, home, shell string
	groups            []uint32 // supplementary: those that list the user, if no group was asked for
}

// maxAccounts bounds what is read of an image's passwd and group, bytes.
const maxAccounts = 1 << 20

// maxGroups is the most groups that a process can be in (the kernel's NGROUPS_MAX).
const maxGroups = 65536

// lookUp resolves appc's user and group (ace.md; rkt's --user and --group): a number, a name in the
// image's own passwd or group file, or an absolute path in the image, whose owner is meant. The
// name root is 0 even in an image without such files. The group "" is the user's own, as with
// Docker, and then a user whom the passwd file has is in all groups that list its name, too.
func lookUp(root *os.File, user, group string) (identity, error) {
	id := identity{name: "root", home: "/", shell: "/bin/sh"}
	passwd, err := accounts(root, "/etc/passwd")
	if err != nil {
		return id, err
	}
	uid, err := number(root, user, passwd, false)
	if err != nil {
		return id, fmt.Errorf("user %q: %w", user, err)
	}
	id.uid = uid
	if uid != 0 {
		id.name = strconv.FormatUint(uint64(uid), 10)
	}
	known := false
	for _, entry := range passwd { // name:password:UID:GID:GECOS:directory:shell
		if len(entry) < 7 || entry[2] != strconv.FormatUint(uint64(uid), 10) || known && entry[0] != user {
			continue
		}
		known, id.name = true, entry[0]
		if entry[5] != "" {
			id.home = entry[5]
		}
		if entry[6] != "" {
			id.shell = entry[6]
		}
		if group == "" {
			if id.gid, err = parseID(entry[3]); err != nil {
				return id, fmt.Errorf("user %q: the image gives it the group %q", user, entry[3])
			}
		}
	}
	if group == "" && !known {
		return id, nil
	}
	groups, err := accounts(root, "/etc/group")
	if err != nil {
		return id, err
	}
	if group == "" {
		if id.groups = listing(groups, id.name); len(id.groups) > maxGroups {
			return id, fmt.Errorf("user %q: in %d groups, more than %d", user, len(id.groups), maxGroups)
		}
		return id, nil
	}
	if id.gid, err = number(root, group, groups, true); err != nil {
		return id, fmt.Errorf("group %q: %w", group, err)
	}
	return id, nil
}

// listing gives the IDs of the groups that list a user (group(5)), in the file's order, each once.
// A line that is none is passed over.
func listing(groups [][]string, user string) (ids []uint32) {
	listed := map[uint32]bool{}
	for _, entry := range groups { // name:password:GID:user,user
		if len(entry) != 4 || !slices.Contains(strings.Split(entry[3], ","), user) {
			continue
		}
		if id, err := parseID(entry[2]); err == nil && !listed[id] {
			listed[id], ids = true, append(ids, id)
		}
	}
	return ids
}

// splitUser takes USER:GROUP apart, as Docker has it. A path, whose owner is meant, may have a ":"
// in it.
func splitUser(s, defaultGroup string) (user, group string, err error) {
	user, group, both := strings.Cut(s, ":")
	if !both || s[0] == '/' {
		return s, defaultGroup, nil
	}
	if user == "" || group == "" || strings.Contains(group, ":") {
		return "", "", fmt.Errorf("--user=%s: neither USER nor USER:GROUP", s)
	}
	return user, group, nil
}

// number resolves one of the two; wantGroup tells which ID of a file is meant.
func number(root *os.File, name string, entries [][]string, wantGroup bool) (uint32, error) {
	if strings.HasPrefix(name, "/") {
		st, err := overlay.Stat(root, name)
		if err != nil {
			return 0, errors.New("no such file in the image")
		}
		if wantGroup {
			return st.Gid, nil
		}
		return st.Uid, nil
	}
	for _, entry := range entries {
		if len(entry) > 2 && entry[0] == name {
			id, err := parseID(entry[2])
			if err != nil {
				return 0, fmt.Errorf("the image gives it the ID %q", entry[2])
			}
			return id, nil
		}
	}
	if name == "root" {
		return 0, nil
	}
	id, err := parseID(name)
	if err != nil {
		return 0, errors.New("not in the image")
	}
	return id, nil
}

// parseID reads a number that a process can run as. -1 means "leave as it is" to the kernel, in 16
// and in 32 bits, and systemd loads no unit with either.
func parseID(s string) (uint32, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, err
	}
	if id == 1<<32-1 || id == 1<<16-1 {
		return 0, errors.New("not an ID")
	}
	return uint32(id), nil
}

// accounts reads a passwd or group file; an image need not have one.
func accounts(root *os.File, path string) ([][]string, error) {
	data, err := overlay.ReadFile(root, path, maxAccounts)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var entries [][]string
	for line := range strings.Lines(string(data)) {
		entries = append(entries, strings.Split(strings.TrimRight(line, "\r\n"), ":"))
	}
	return entries, nil
}
