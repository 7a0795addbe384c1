package userns

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Span is consecutive IDs, users' or groups'. A range of a pod is for both, so it may overlap
// neither.
type Span struct{ First, Count uint64 }

// overlaps reports whether one of the IDs is in the range.
func (s Span) overlaps(r Range) bool {
	return s.First < uint64(r.Base)+Count && uint64(r.Base) < s.First+s.Count
}

// Taken returns the IDs that belong to somebody on the host: its users and groups, what they may
// give to their own containers (subuid(5), subgid(5)), and what the user namespaces of running
// processes map. root is "/".
func Taken(root string) (spans []Span, err error) {
	for _, file := range []struct {
		name         string
		first, count int // fields; a count of -1 is one ID
	}{{"etc/passwd", 2, -1}, {"etc/group", 2, -1}, {"etc/subuid", 1, 2}, {"etc/subgid", 1, 2}} {
		more, err := read(filepath.Join(root, file.name), ":", file.first, file.count)
		if err != nil {
			return nil, err
		}
		spans = append(spans, more...)
	}
	seen := map[Span]bool{}
	processes, err := filepath.Glob(filepath.Join(root, "proc/[0-9]*"))
	if err != nil {
		return nil, err
	}
	namespaces := map[string]bool{}
	for i, dir := range append([]string{filepath.Join(root, "proc/self")}, processes...) {
		if ns, err := os.Readlink(filepath.Join(dir, "ns/user")); err == nil { // most are in that of the host
			if namespaces[ns] {
				continue
			}
			namespaces[ns] = true
		}
		for _, name := range []string{"uid_map", "gid_map"} {
			more, err := read(filepath.Join(dir, name), "", 1, 2)
			if err != nil {
				return nil, err
			}
			for _, s := range more {
				// What the whole host has, a namespace that maps all of it does not have for
				// itself.
				if all := s.First < Count && s.Count >= 1<<31; i > 0 && !seen[s] && !all {
					spans = append(spans, s)
				}
				seen[s] = true
			}
		}
	}
	return spans, nil
}

// read takes a span from each line of a file; what is no span, as programs of the host do, it
// ignores. A file need not be there, nor a process.
func read(name, separator string, first, count int) (spans []Span, err error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if separator != "" {
			fields = strings.Split(lines.Text(), separator)
		}
		if len(fields) <= max(first, count) {
			continue
		}
		s := Span{Count: 1}
		var errFirst, errCount error
		s.First, errFirst = strconv.ParseUint(strings.TrimSpace(fields[first]), 10, 32)
		if count >= 0 {
			s.Count, errCount = strconv.ParseUint(strings.TrimSpace(fields[count]), 10, 32)
		}
		if errFirst == nil && errCount == nil {
			spans = append(spans, s)
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return spans, nil
}

// OfContainer reports whether systemd has given a range to a container that need not run yet
// (systemd-nspawn(1), --private-users=pick).
func OfContainer(r Range) bool {
	_, err := os.Lstat(fmt.Sprintf("/run/systemd/nspawn-uid/%d", r.Base))
	return err == nil
}
