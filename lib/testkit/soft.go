package testkit

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// keep has the host's systemd leave all file systems mounted that are mounted now: in a real host
// the disks are mounted again, and what Boot has mounted is nothing that a host could mount.
const keep = `set -e
findmnt --list --noheadings --output=TARGET | sort -u | while read -r target; do
	unit=$(systemd-escape --path --suffix=mount "$target")
	mkdir -p "/etc/systemd/system/$unit.d"
	printf '[Unit]\nDefaultDependencies=no\n' >"/etc/systemd/system/$unit.d/keep.conf"
done
systemctl daemon-reload
`

// SoftReboot restarts the host's userspace and keeps its kernel, as systemctl soft-reboot does: all
// units are stopped and all processes end, and /run stays. It returns when the host's systemd has
// reached the state "running" again. It needs systemd 256.
func (h *Host) SoftReboot(ctx context.Context) error {
	if out, err := h.Command(ctx, "sh", "-c", keep).CombinedOutput(); err != nil {
		return fmt.Errorf("disposable host: mounts: %w: %s", err, out)
	}
	before, err := h.softReboots(ctx)
	if err != nil {
		return err
	}
	out, err := h.Command(ctx, "systemctl", "soft-reboot", "--no-block").CombinedOutput()
	if err != nil && !isExit(err) { // it may be killed with the others
		return fmt.Errorf("disposable host: systemctl soft-reboot: %w: %s", err, out)
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if now, err := h.softReboots(ctx); err == nil && now != before {
			return h.await(ctx)
		}
		if time.Now().After(end) {
			return fmt.Errorf("disposable host: no soft reboot within two minutes: %s", out)
		}
	}
}

// softReboots is how often the host was soft-rebooted.
func (h *Host) softReboots(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	out, err := h.Command(ctx, "systemctl", "show", "--property=SoftRebootsCount", "--value").Output()
	if err != nil {
		return "", fmt.Errorf("disposable host: SoftRebootsCount: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func isExit(err error) bool {
	_, ok := err.(*exec.ExitError)
	return ok
}
