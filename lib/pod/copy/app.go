package copy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"runtime"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/openat"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/host/userns"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/running"
	"golang.org/x/sys/unix"
)

// lockTimeout is how long another program may work on a pod that does not run.
const lockTimeout = 10 * time.Second

// App is an app of a pod, and a path in it.
type App struct {
	Pod  running.Pod
	Name string
	Path string
	Warn func(string)
	Log  *slog.Logger
}

// Out copies what is at the path to a path of the host, where it belongs to the caller.
func (a App) Out(ctx context.Context, to string) error {
	host, err := onHost(to)
	if err != nil {
		return err
	}
	defer host.Root.Close()
	return a.with(ctx, func(root *os.File, _ userns.Range, _, _ uint32) error {
		return Copy(ctx, Place{root, a.Path}, host, Options{UID: os.Geteuid(), GID: os.Getegid(), Plain: true,
			Warn: a.Warn})
	})
}

// In copies what is at a path of the host to the path, where it belongs to the app's user.
func (a App) In(ctx context.Context, from string) error {
	host, err := onHost(from)
	if err != nil {
		return err
	}
	defer host.Root.Close()
	return a.with(ctx, func(root *os.File, users userns.Range, uid, gid uint32) error {
		copy := func() error {
			return Copy(ctx, host, Place{root, a.Path}, Options{UID: int(users.Base + uid), GID: int(users.Base + gid),
				Warn: a.Warn})
		}
		if users.Base == 0 {
			return copy()
		}
		return users.As(copy)
	})
}

// onHost is a path of the host, of which a slash or a dot at its end stays a part.
func onHost(name string) (Place, error) {
	if !path.IsAbs(name) {
		dir, err := os.Getwd()
		if err != nil {
			return Place{}, err
		}
		name = dir + "/" + name
	}
	root, err := os.Open("/")
	return Place{root, name}, err
}

// with calls f with the app's root, the pod's users, whose Base is 0 for the host's, and the app's
// user. f runs on a locked thread.
func (a App) with(ctx context.Context, f func(root *os.File, users userns.Range, uid, gid uint32) error) error {
	uid, gid, err := a.user()
	if err != nil {
		return err
	}
	state, err := a.Pod.State()
	if err != nil {
		return err
	}
	if state == poddir.Running {
		return a.running(func(root *os.File, users userns.Range) error { return f(root, users, uid, gid) })
	}
	if state != poddir.Prepared && !state.Ended() {
		return fmt.Errorf("pod %s: has no files yet, or no more (its state is: %s)", a.Pod.UUID, state)
	}
	lock, err := a.Pod.LockEnded(ctx, lockTimeout)
	if err != nil {
		return err
	}
	defer lock.Close()
	if state := a.Pod.StateHeld(); state == poddir.AbortedPrepare {
		return fmt.Errorf("pod %s: its preparation was aborted", a.Pod.UUID)
	}
	overlayDir := poddir.AppOverlay(a.Name)
	target := poddir.RootDir + stage1.AppRoot(a.Name)
	for _, dir := range []string{overlay.Upper(overlayDir), target} {
		if err := a.Pod.CheckDirectory(dir); err != nil {
			return err
		}
	}
	a.Log.Debug("mounts its root", "pod", a.Pod.UUID, "app", a.Name)
	return overlay.View(a.Pod.Path(overlayDir), a.Pod.Path(target), func(root *os.File) error {
		if err := a.mountVolumes(root); err != nil {
			return err
		}
		return f(root, userns.Range{}, uid, gid)
	})
}

// user is the app's, as its configuration has it.
func (a App) user() (uid, gid uint32, err error) {
	for _, name := range []string{stage1.ConfigFile, poddir.PreparedConfigFile} {
		text, err := a.Pod.ReadFile(poddir.AppConfig(a.Name, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if errors.Is(err, unix.ENOTDIR) {
			return 0, 0, fmt.Errorf("pod %s: an older rkt prepared it, whose pods rkt-cp can't read", a.Pod.UUID)
		}
		if err != nil {
			return 0, 0, err
		}
		var config struct {
			Process struct {
				User struct{ UID, GID uint32 }
			}
		}
		if err := json.Unmarshal(text, &config); err != nil {
			return 0, 0, fmt.Errorf("pod %s: app %q: %s: %w", a.Pod.UUID, a.Name, name, err)
		}
		return config.Process.User.UID, config.Process.User.GID, nil
	}
	return 0, 0, fmt.Errorf("pod %s: app %q: has no configuration", a.Pod.UUID, a.Name)
}

// running calls f with the root of an app of a running pod: as the app sees it, or, if it has no
// process, as the pod's PID 1 does. It is the same directory either way; what is mounted in it may
// differ.
func (a App) running(f func(root *os.File, users userns.Range) error) error {
	var users userns.Range
	text, err := a.Pod.ReadFile(poddir.UsersFile)
	if err == nil {
		users, err = userns.Parse(string(text))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pod %s: %w", a.Pod.UUID, err)
	}
	leader, err := a.Pod.Leader()
	if err != nil {
		return err
	}
	root, err := openRoot(leader, a.Pod.Flavor.Root(a.Name))
	if err != nil {
		return fmt.Errorf("pod %s: app %q: %w", a.Pod.UUID, a.Name, err)
	}
	defer root.Close()
	for _, pid := range a.Pod.Flavor.Processes(leader, a.Name) {
		own, err := openRoot(pid, "/")
		if err == nil && same(own, root) { // still, although the number may be another process's by now
			defer own.Close()
			root = own
			break
		}
		if err == nil {
			own.Close()
		}
	}
	if again, err := a.Pod.Leader(); err != nil || again != leader {
		return errors.Join(err, fmt.Errorf("pod %s: has just exited", a.Pod.UUID))
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the file system user is the thread's, which ends with the goroutine
		done <- f(root, users)
	}()
	return <-done
}

// openRoot opens a directory below the root of a process, through no link.
func openRoot(pid int, dir string) (*os.File, error) {
	top, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil || dir == "/" {
		return top, err
	}
	defer top.Close()
	return openat.File(top, dir[1:], unix.O_PATH|unix.O_DIRECTORY, openat.NoLinks)
}

func same(a, b *os.File) bool {
	var x, y unix.Stat_t
	return unix.Fstat(int(a.Fd()), &x) == nil && unix.Fstat(int(b.Fd()), &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// mountVolumes mounts the volumes of an app of a pod that does not run in its root, where the
// calling thread alone sees them. One whose source or mount point is gone is not there; for a path
// in it, that is an error.
func (a App) mountVolumes(root *os.File) error {
	text, err := a.Pod.ReadFile(poddir.MountsFile)
	if err != nil {
		return err
	}
	binds, err := fstab.Parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", a.Pod.Path(poddir.MountsFile), err)
	}
	prefix := strings.TrimPrefix(poddir.RootDir+stage1.AppRoot(a.Name), "/") + "/"
	for _, b := range binds {
		inside, ok := strings.CutPrefix(path.Clean(b.Target), prefix)
		if !ok {
			continue
		}
		source := b.Source
		if !path.IsAbs(source) {
			if err := a.Pod.CheckDirectory(source); err != nil {
				return err
			}
			source = a.Pod.Path(source)
		}
		at, err := overlay.Follow(root, a.Path)
		if err != nil {
			return err
		}
		point, err := overlay.Follow(root, "/"+inside)
		if err != nil {
			return err
		}
		err = mountVolume(root, "/"+inside, source, b)
		if errors.Is(err, fs.ErrNotExist) && at != point && !strings.HasPrefix(at, point+"/") {
			continue
		}
		if err != nil {
			return fmt.Errorf("pod %s: volume on /%s: %w", a.Pod.UUID, inside, err)
		}
	}
	return nil
}

func mountVolume(root *os.File, at, source string, b fstab.Bind) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_NO_AUTOMOUNT)
	if b.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, flags)
	if err != nil {
		return &os.PathError{Op: "mount", Path: source, Err: err}
	}
	defer unix.Close(tree)
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if b.ReadOnly {
		attributes.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attributes); err != nil {
		return &os.PathError{Op: "mount", Path: source, Err: err}
	}
	target, err := overlay.Open(root, at, unix.O_PATH)
	if err != nil {
		return err
	}
	defer target.Close()
	return overlay.MoveTo(tree, target)
}
