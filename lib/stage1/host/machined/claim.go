package machined

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/process"
	"github.com/rkt-toolkit/rkt/lib/host/program"
)

// Dir has a symbolic link for each machine under a name that somebody gave its pod: it leads to
// PID.STARTTIME of the process that is the pod's systemd-nspawn, or becomes it. Who reads or
// changes one has the lock of Dir.
const Dir = "/run/rkt/machines"

// waitLimit is how long another program may have that lock.
const waitLimit = 30 * time.Second

// validName is what systemd takes for the name of a machine (systemd's hostname_is_valid).
var validName = regexp.MustCompile(`^` + namePart + `(\.` + namePart + `)*$`)

const namePart = `[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?`

// ofNoName are the names of pods without one.
var ofNoName = regexp.MustCompile(`^rkt-[0-9A-Fa-f-]{36}$`)

// ValidName reports whether a machine can be called so. The names of pods without one are theirs
// alone.
func ValidName(name string) bool {
	return len(name) <= 64 && validName.MatchString(name) && !ofNoName.MatchString(name)
}

// Claim reports whether the calling process may become a machine of that name: no other process
// that lives has claimed it, and neither systemd-machined nor systemd knows a living machine by it.
// It has them forget a dead one.
func Claim(ctx context.Context, name string) (bool, error) {
	claimed, err := claim(ctx, Dir, name)
	if err != nil || !claimed {
		return false, err
	}
	if err := os.MkdirAll(tmpfiles, 0o755); err != nil {
		return false, err
	}
	return true, durable.WriteForNow(forgetAtBoot(name), []byte("R! "+filepath.Join(notes, name)+"\n"), 0o644)
}

// tmpfiles has lines for systemd-tmpfiles (tmpfiles.d(5)) that last until the machine is switched
// off, so over a soft reboot.
const tmpfiles = "/run/tmpfiles.d"

// forgetAtBoot is the file by which systemd-machined does not know the machine after a soft reboot,
// which its notes outlive: it would stop the unit of a dead machine, in which a new pod may be
// starting. See also units/tmpfiles.conf.
func forgetAtBoot(name string) string { return filepath.Join(tmpfiles, "rkt-machine-"+name+".conf") }

// Release has systemd-machined and systemd forget a machine that has ended, unless the name is
// another one's by now.
func Release(ctx context.Context, name string) error {
	lock, err := durable.Lock(Dir, waitLimit)
	if errors.Is(err, fs.ErrNotExist) { // after a reboot
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", Dir, err)
	}
	defer lock.Close()
	link := filepath.Join(Dir, name)
	if isClaimed(link) {
		return nil
	}
	if _, err := forget(ctx, name); err != nil {
		return err
	}
	for _, file := range []string{forgetAtBoot(name), link} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func claim(ctx context.Context, dir, name string) (bool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	lock, err := durable.Lock(dir, waitLimit)
	if err != nil {
		return false, fmt.Errorf("%s: %w", dir, err)
	}
	defer lock.Close()
	link := filepath.Join(dir, name)
	if isClaimed(link) {
		return false, nil
	}
	if free, err := forget(ctx, name); err != nil || !free {
		return false, err
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, os.Symlink(process.ID(os.Getpid()), link)
}

// isClaimed reports whether another process has the name.
func isClaimed(link string) bool {
	of, err := os.Readlink(link)
	number, _, _ := strings.Cut(of, ".")
	pid, errPID := strconv.Atoi(number)
	return err == nil && errPID == nil && pid != os.Getpid() && of == process.ID(pid)
}

// forget has a dead machine forgotten, and reports whether no machine has the name then.
func forget(ctx context.Context, name string) (free bool, err error) {
	note, err := os.ReadFile(filepath.Join(notes, name))
	if err == nil {
		for line := range strings.Lines(string(note)) {
			leader, ok := strings.CutPrefix(strings.TrimSpace(line), "LEADER=")
			if pid, err := strconv.Atoi(leader); ok && (err != nil || process.Lives(pid)) {
				return false, nil
			}
		}
		if err := Unregister(ctx, name); err != nil {
			return false, err
		}
	}
	for _, scope := range scopes(name) {
		if inUse, err := hasProcess(ctx, scope); err != nil || inUse {
			return false, err
		}
	}
	return true, StopScope(ctx, name)
}

// hasProcess reports whether a unit has a process.
func hasProcess(ctx context.Context, unit string) (bool, error) {
	if _, err := os.Lstat(filepath.Join(transient, unit)); err != nil {
		return false, nil
	}
	out, err := program.Command(ctx, "systemctl", "show", "--property=ControlGroup", "--value", "--", unit).Output()
	if err != nil {
		return false, fmt.Errorf("%s: %w", unit, err)
	}
	group := strings.TrimSpace(string(out))
	return group != "" && cgroup.HasProcess(group), nil
}
