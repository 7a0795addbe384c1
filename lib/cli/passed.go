package cli

import (
	"strconv"
	"strings"
)

// Passed names the descriptors that systemd has passed to the process pid, from 3 up, as sd_listen_fds_with_names(3) tells them by the
// environment; "" for one without a name.
func Passed(getenv func(string) string, pid int) []string {
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n <= 0 || getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil
	}
	names := make([]string, n)
	copy(names, strings.Split(getenv("LISTEN_FDNAMES"), ":"))
	return names
}
