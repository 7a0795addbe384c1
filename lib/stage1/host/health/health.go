// Package health counts the health checks of an app that failed one after another, and kills an app
// that has failed too many.
package health

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
)

// Dir has a file for each app that was checked, with the number of failures since it has passed a
// check.
const Dir = "/run/rkt/health"

// Healthy takes the name of an app that has passed a check.
func Healthy(args []string) error {
	if len(args) != 1 {
		return errors.New("not APP")
	}
	return Passed(args[0])
}

// Passed notes that an app has passed a check.
func Passed(app string) error { return passed(Dir, app) }

// Failed notes that an app has failed a check, and returns how many it has failed one after
// another.
func Failed(app string) (int, error) { return count(Dir, app) }

// Line is what is said of an app that is killed for it.
func Line(failed int) string {
	return "unhealthy: " + strconv.Itoa(failed) + " checks failed one after another, the app is killed"
}

// passed notes that an app has passed a check, so that none has failed since.
func passed(dir, app string) error {
	text, err := os.ReadFile(filepath.Join(dir, app))
	if err == nil && string(text) == "0\n" {
		return nil
	}
	return write(dir, app, 0)
}

// Unhealthy takes the name of an app that has failed a check, and how many failures in a row are
// too many. It kills all processes of the app then, with a line in the app's log; the pod ends, and
// what comes next is up to the host's unit (Restart=). It must run in a unit that is in no slice.
func Unhealthy(args []string) error {
	if len(args) != 2 {
		return errors.New("not APP RETRIES")
	}
	retries, err := strconv.Atoi(args[1])
	if err != nil {
		return errors.New("not APP RETRIES")
	}
	failed, err := Failed(args[0])
	if err != nil || failed < retries {
		return err
	}
	groups, err := cgroup.OfUnit("system.slice", args[0]+".service")
	if err != nil {
		return err
	}
	said := streams.Say(args[0], Line(failed))
	return errors.Join(said, kill(groups))
}

// count adds a failure. A damaged file counts for none.
func count(dir, app string) (failed int, err error) {
	text, err := os.ReadFile(filepath.Join(dir, app))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	failed, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	failed++
	return failed, write(dir, app, failed)
}

// write writes how many checks of an app have failed one after another.
func write(dir, app string, failed int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp := filepath.Join(dir, "."+app)
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(failed)+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, app))
}

// kill kills the processes of the group that is there.
func kill(groups []string) error {
	for _, group := range groups {
		if _, err := os.Stat(group); err == nil {
			return cgroup.Kill(group)
		}
	}
	return errors.New("no cgroup of the app")
}
