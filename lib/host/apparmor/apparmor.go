// Package apparmor says which AppArmor profiles the kernel has. See apparmor(7).
package apparmor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Unconfined is the name of what a process has without a profile.
const Unconfined = "unconfined"

// securityfs is where the kernel tells of AppArmor, if it is enabled.
const securityfs = "/sys/kernel/security/apparmor"

// Enabled reports whether the kernel has AppArmor enabled and securityfs is mounted.
func Enabled() bool {
	_, err := os.Stat(securityfs)
	return err == nil
}

// Loaded reports whether the kernel has a profile. It has none where AppArmor is not enabled.
func Loaded(name string) (bool, error) {
	text, err := os.ReadFile(securityfs + "/profiles")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("AppArmor: %w", err)
	}
	return has(string(text), name), nil
}

// has looks for a profile in the kernel's list, whose lines are "NAME (MODE)"; a name may have
// spaces.
func has(profiles, name string) bool {
	for line := range strings.Lines(profiles) {
		line = strings.TrimSuffix(line, "\n")
		if at := strings.LastIndex(line, " ("); at >= 0 && line[:at] == name {
			return true
		}
	}
	return false
}
