// Package activation reads which descriptors systemd has passed to a process (sd_listen_fds(3)).
package activation

import (
	"strconv"
	"strings"
)

// First is the first descriptor that is passed.
const First = 3

// maxPassed is more than a process can have open (/proc/sys/fs/nr_open).
const maxPassed = 1 << 20

// Names names the descriptors that systemd has passed to the process pid, from First up, by its
// environment; "" for one without a name.
func Names(getenv func(string) string, pid int) []string {
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n <= 0 || n > maxPassed || getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil
	}
	names := make([]string, n)
	copy(names, strings.Split(getenv("LISTEN_FDNAMES"), ":"))
	return names
}
