package run

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// oldestSystemd is the first version with all that a pod's units use (MONITOR_… for several triggers, systemd.exec(5)).
const oldestSystemd = 251

// systemdVersion returns the version of systemd that the program systemd-nspawn is of. It is part of the name of the
// library that the program is linked with, so the program need not be started to ask it.
func systemdVersion(nspawn string) (int, error) {
	program, err := os.ReadFile(nspawn)
	if err != nil {
		return 0, err
	}
	version := 0
	if _, name, found := bytes.Cut(program, []byte("\x00libsystemd-shared-")); found {
		version = leadingNumber(string(name[:min(len(name), 8)]))
	}
	if version == 0 { // linked statically
		out, err := exec.Command(nspawn, "--version").Output()
		if err != nil {
			return 0, fmt.Errorf("%s --version: %w", nspawn, err)
		}
		version = leadingNumber(strings.TrimPrefix(string(out), "systemd "))
	}
	if version < oldestSystemd {
		return 0, fmt.Errorf("%s is of systemd %d, and pods need %d or newer", nspawn, version, oldestSystemd)
	}
	return version, nil
}

// leadingNumber returns the number that a text begins with, 0 if there is none.
func leadingNumber(text string) int {
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(text)
	}
	n, err := strconv.Atoi(text[:end])
	if err != nil {
		return 0
	}
	return n
}
