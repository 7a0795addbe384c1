// Package ready tells the host that a pod is ready.
package ready

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/streams"
	"github.com/rkt-toolkit/rkt/lib/stage2/app"
	"golang.org/x/sys/unix"
)

// hostSocket is where systemd-nspawn takes what the pod's PID 1 says to the host.
const hostSocket = "/run/host/notify"

// ByHealth before the name of an app has Say wait until the app has passed a health check.
const ByHealth = "health:"

// Say waits until each app has been executed, then tells systemd-nspawn that the pod is ready, and
// makes stage1.ReadyFile. It is an error if an app could not be executed.
func Say(apps []string) error {
	for _, name := range apps {
		name, byHealth := strings.CutPrefix(name, ByHealth)
		if err := app.Executed(name); err != nil {
			return err
		}
		for byHealth && !passed(name) {
			time.Sleep(look)
		}
	}
	if err := os.WriteFile(stage1.ReadyFile, nil, 0o644); err != nil {
		return err
	}
	return notify("READY=1")
}

// look is how often Say looks at the checks of an app.
const look = 50 * time.Millisecond

// passed reports whether the last health check of an app was passed.
func passed(app string) bool {
	text, err := os.ReadFile(filepath.Join(streams.HealthDir, app))
	return err == nil && stage1.ParseHealthState(text).Failed == 0
}

// notify says something in the name of PID 1, to which alone systemd-nspawn listens.
func notify(text string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	rights := unix.UnixCredentials(&unix.Ucred{Pid: 1})
	if err := unix.Sendmsg(fd, []byte(text), rights, &unix.SockaddrUnix{Name: hostSocket}, 0); err != nil {
		return fmt.Errorf("%s: %w", hostSocket, err)
	}
	return nil
}
