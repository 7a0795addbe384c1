package place

import (
	"context"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/program"
)

// Property asks the host's systemd for a setting of a unit; "" if there is no answer soon.
func Property(unit, name string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := program.Command(ctx, "systemctl", "show", "--property="+name, "--value", "--", unit).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// setProperty has the host's systemd change a setting NAME=VALUE of a unit until the next boot.
func setProperty(unit, setting string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return program.Command(ctx, "systemctl", "set-property", "--runtime", "--", unit, setting).Run()
}
