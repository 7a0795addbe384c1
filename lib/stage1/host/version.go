package host

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/systemd"
)

// systemdVersion returns the version of systemd that the program systemd-nspawn is of. It is part
// of the name of the library that the program is linked with, so the program need not be started to
// ask it.
func systemdVersion(nspawn string) (int, error) {
	program, err := os.ReadFile(nspawn)
	if err != nil {
		return 0, err
	}
	version := 0
	if _, name, found := bytes.Cut(program, []byte("\x00libsystemd-shared-")); found {
		version = systemd.LeadingNumber(string(name[:min(len(name), 8)]))
	}
	if version == 0 { // linked statically
		out, err := exec.Command(nspawn, "--version").Output()
		if err != nil {
			return 0, fmt.Errorf("%s --version: %w", nspawn, err)
		}
		version = systemd.LeadingNumber(strings.TrimPrefix(string(out), "systemd "))
	}
	if version < Oldest {
		return 0, fmt.Errorf("%s is of systemd %d, and pods need %d or newer", nspawn, version, Oldest)
	}
	return version, nil
}

// Oldest is the first version with all that a pod's units use (MONITOR_… for several triggers,
// systemd.exec(5)).
const Oldest = 251
