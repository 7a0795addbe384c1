// Package machined has systemd-machined and systemd forget machines that have ended.
package machined

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/program"
	"github.com/rkt-toolkit/rkt/lib/host/systemd"
)

// notes is where systemd-machined keeps a file for each machine, which journalctl -M reads too,
// and, up to version 257, a link unit:UNIT to the machine of a unit.
const notes = "/run/systemd/machines"

// service is its name on the bus.
const service = "org.freedesktop.machine1"

// Unregister has systemd-machined forget a machine. One that it does not know is no error, and
// neither is a systemd-machined that is not there: it finds out by itself when it is again.
func Unregister(ctx context.Context, name string) error {
	if _, err := os.Lstat(filepath.Join(notes, name)); err != nil {
		return nil
	}
	out, err := program.Command(ctx, "busctl", "--quiet", "call", service, "/org/freedesktop/machine1",
		service+".Manager",
		"UnregisterMachine", "s", name).CombinedOutput()
	if err == nil || strings.Contains(string(out), "No machine") {
		return nil
	}
	if program.Command(ctx, "busctl", "--quiet", "status", service).Run() != nil {
		// it does not run, and can't be started
		return nil
	}
	return fmt.Errorf("systemd-machined: %s: %s (%w)", name, strings.TrimSpace(string(out)), err)
}

// transient is where systemd keeps the files of scopes and of what systemd-run starts, as long as
// these are active.
const transient = "/run/systemd/transient"

// StopScope has systemd stop the scope that a machine had outside of a service. One whose processes
// are killed while systemd makes it stays active without them. No such scope is no error.
func StopScope(ctx context.Context, name string) error {
	for _, scope := range scopes(name) {
		if _, err := os.Lstat(filepath.Join(transient, scope)); err != nil {
			continue
		}
		out, err := program.Command(ctx, "systemctl", "stop", "--", scope).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "not loaded") {
			return fmt.Errorf("%s: %s (%w)", scope, strings.TrimSpace(string(out)), err)
		}
	}
	return nil
}

// scopes are the names that a machine's scope can have: from version 258 on, and before.
func scopes(name string) []string {
	return []string{name + ".scope", "machine-" + strings.ReplaceAll(name, "-", `\x2d`) + ".scope"}
}

// ReleaseUnit has systemd-machined forget the machine of a unit if that has ended. Up to version
// 257 it knows one machine for each unit. It notices that a killed one is gone when the unit is,
// which a unit with Restart= never is: it refuses the unit's next machine with "File exists", and
// stops the unit when it cleans up.
func ReleaseUnit(ctx context.Context, unit string) error {
	name, err := os.Readlink(filepath.Join(notes, "unit:"+unit))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	out, err := program.Command(ctx, "machinectl", "show", "--property=Leader", "--value", "--", name).Output()
	if err != nil { // it has forgotten it by now, or is not there
		return nil
	}
	leader, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return fmt.Errorf("systemd-machined: %s: leader %q: not a number", name, out)
	}
	if systemd.UnitOf(leader) == unit {
		return nil
	}
	return Unregister(ctx, name)
}
