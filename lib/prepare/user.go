package prepare

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/overlay"
)

// identity is who an app runs as.
type identity struct {
	uid, gid          uint32
	name, home, shell string
}

// maxAccounts bounds what is read of an image's passwd and group, bytes.
const maxAccounts = 1 << 20

// lookUp resolves appc's user and group (ace.md; rkt's --user and --group): a number, a name in the image's own passwd or group
// file, or an absolute path in the image, whose owner is meant. The group "" is the user's own, as with Docker.
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
	if group == "" {
		return id, nil
	}
	groups, err := accounts(root, "/etc/group")
	if err != nil {
		return id, err
	}
	if id.gid, err = number(root, group, groups, true); err != nil {
		return id, fmt.Errorf("group %q: %w", group, err)
	}
	return id, nil
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
	id, err := parseID(name)
	if err != nil {
		return 0, errors.New("not in the image")
	}
	return id, nil
}

// parseID reads a number that a process can run as. -1 means "leave as it is" to the kernel, in 16 and in 32 bits, and systemd loads
// no unit with either.
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
