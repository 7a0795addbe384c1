package run

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/bounded"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/poddir/fstab"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// credentialsVariable names the directory with the unit's credentials (systemd.exec(5)), and an
// app's own.
const credentialsVariable = "CREDENTIALS_DIRECTORY"

// secret is a credential of an app, in memory.
type secret struct {
	content []byte
	target  string // where the app has it besides; "" is nowhere
	mode    uint32
	uid     uint32 // as the app has it
	gid     uint32
}

// readSecrets reads what the apps are to have: the credentials of the unit, every app, and the
// files of --secret.
func readSecrets(apps []*app, env []string) error {
	unit, err := unitCredentials(env)
	if err != nil {
		return err
	}
	for _, a := range apps {
		if a.Prepared == nil {
			continue
		}
		user := a.Prepared.Process.User
		a.secrets = map[string]secret{}
		for name, content := range unit {
			a.secrets[name] = secret{content: content, mode: 0o400, uid: user.UID, gid: user.GID}
		}
		own, err := stage1.Secrets(a.Prepared)
		if err != nil {
			return fmt.Errorf("app %q: %w", a.Name, err)
		}
		for _, s := range own {
			content, err := readSecret(s.Source)
			if err != nil {
				return fmt.Errorf("app %q: secret %q: %w", a.Name, s.Name, err)
			}
			a.secrets[s.Name] = secret{content, s.Target, or(s.Mode, 0o400), or(s.UID, user.UID), or(s.GID, user.GID)}
		}
		for _, name := range slices.Sorted(maps.Keys(a.secrets)) {
			if to := a.secrets[name].target; to != "" {
				a.Starting.Secrets = append(a.Starting.Secrets, to)
			}
		}
		if len(a.secrets) > 0 {
			a.Final.Secrets = true
			a.Final.Environment = append(a.Final.Environment, credentialsVariable+"="+stage1.SecretsDir)
		}
	}
	return nil
}

func or(value *uint32, otherwise uint32) uint32 {
	if value == nil {
		return otherwise
	}
	return *value
}

// unitCredentials are those that systemd has for this process.
func unitCredentials(env []string) (map[string][]byte, error) {
	found := map[string][]byte{}
	for _, v := range env {
		dir, ok := strings.CutPrefix(v, credentialsVariable+"=")
		if !ok || dir == "" {
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("$%s: %w", credentialsVariable, err)
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || stage1.CheckSecretName(e.Name()) != nil {
				continue
			}
			if found[e.Name()], err = readSecret(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("$%s: %w", credentialsVariable, err)
			}
		}
	}
	return found, nil
}

// readSecret reads a file and waits for nothing.
func readSecret(file string) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bounded.File(f, stage1.MaxSecret)
}

// mountSecrets gives an app its credentials in a file system of their own that is never written to
// a disk, not even to swap.
func (a *app) mountSecrets(appRoot string, volumes []fstab.Bind, users *shifted) error {
	if len(a.secrets) == 0 {
		return nil
	}
	for _, v := range volumes {
		if isBelow(stage1.SecretsDir, path.Clean(v.Target)) {
			return fmt.Errorf("a volume is mounted on %s; the app's credentials have their place in %s", v.Target,
				stage1.SecretsDir)
		}
	}
	root, err := os.Open(appRoot)
	if err != nil {
		return err
	}
	defer root.Close()
	first := uint32(0)
	if users != nil {
		first = users.Base
	}
	files, err := a.newSecrets(first)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	defer unix.Close(files)
	target, err := overlay.MountPoint(root, stage1.SecretsDir, files)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	defer target.Close()
	if err := overlay.MoveTo(files, target); err != nil {
		return fmt.Errorf("credentials on %s: %w", stage1.SecretsDir, err)
	}
	for _, name := range slices.Sorted(maps.Keys(a.secrets)) {
		if to := a.secrets[name].target; to != "" {
			if err := mountSecret(files, name, root, to, volumes); err != nil {
				return fmt.Errorf("secret %q: target %s: %w", name, to, err)
			}
		}
	}
	return nil
}

// isBelow reports whether a path is a directory or below it.
func isBelow(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

// newSecrets makes that file system, mounted nowhere. first is the pod's root, as the host numbers
// it.
func (a *app) newSecrets(first uint32) (int, error) {
	files, err := overlay.NewFileSystem("ramfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC,
		append([]string{"source=credentials"}, overlay.Context(a.Final.MountLabel)...)...)
	if err != nil {
		return -1, err
	}
	user, dirMode := a.Prepared.Process.User, uint32(0o500)
	for _, s := range a.secrets {
		if s.uid != user.UID || s.mode&0o077 != 0 { // others are to have it
			dirMode = 0o555
		}
	}
	own := func(fd int, mode, uid, gid uint32) error {
		return errors.Join(unix.Fchmod(fd, mode), unix.Fchown(fd, int(first+uid), int(first+gid)))
	}
	for _, name := range slices.Sorted(maps.Keys(a.secrets)) {
		s := a.secrets[name]
		var fd int
		if fd, err = unix.Openat(files, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC,
			0); err != nil {
			break
		}
		f := os.NewFile(uintptr(fd), name)
		_, err = f.Write(s.content)
		if err = errors.Join(err, own(fd, s.mode, s.uid, s.gid), f.Close()); err != nil {
			break
		}
	}
	if err == nil {
		var dir int
		if dir, err = unix.Openat(files, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			err = own(dir, dirMode, user.UID, user.GID)
			unix.Close(dir)
		}
	}
	if err == nil {
		err = unix.MountSetattr(files, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
	if err != nil {
		unix.Close(files)
		return -1, err
	}
	return files, nil
}

// mountSecret mounts one of the files where the app is to have it besides.
func mountSecret(files int, name string, root *os.File, to string, volumes []fstab.Bind) error {
	tree, err := unix.OpenTree(files, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	inVolume := slices.ContainsFunc(volumes, func(v fstab.Bind) bool { return isBelow(to, path.Clean(v.Target)) })
	target, err := overlay.Open(root, to, unix.O_PATH)
	if errors.Is(err, os.ErrNotExist) && !inVolume { // nothing is made in what is the host's
		target, err = overlay.MountPoint(root, to, tree)
	}
	if err != nil {
		return err
	}
	defer target.Close()
	return overlay.MoveTo(tree, target)
}
