package testkit

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// masked are units that a machine in namespaces has no use for, or that would reach the machine
// itself: kernel settings, modules, devices, the clock.
var masked = []string{
	"systemd-firstboot.service", "systemd-timesyncd.service", "systemd-networkd.service", "systemd-networkd.socket",
	"systemd-networkd-wait-online.service", "systemd-resolved.service", "systemd-udevd.service",
	"systemd-udevd-control.socket", "systemd-udevd-kernel.socket", "systemd-udev-trigger.service",
	"systemd-udev-settle.service", "systemd-sysctl.service", "systemd-modules-load.service", "systemd-binfmt.service",
	"systemd-random-seed.service", "systemd-hwdb-update.service", "proc-sys-fs-binfmt_misc.automount",
	"proc-sys-fs-binfmt_misc.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount",
	"sys-fs-fuse-connections.mount", "dev-hugepages.mount", "kmod-static-nodes.service", "modprobe@.service",
	"console-getty.service", "getty.target", "getty-static.service", "systemd-remount-fs.service",
	"systemd-update-utmp.service", "apt-daily.timer", "apt-daily-upgrade.timer", "fstrim.timer", "e2scrub_all.timer",
	"e2scrub_reap.service",
}

// mount is one line of become's list.
type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

// become makes the file system of the host in the namespaces that the process was started in, and
// executes systemd.
func (s *setup) become() error {
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("cgroup namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("/: %w", err)
	}
	root := filepath.Join(s.Dir, "root")
	if err := s.makeRoot(root); err != nil {
		return err
	}
	at := func(path string) string { return filepath.Join(root, path) }
	if err := s.mountHost(at); err != nil {
		return err
	}
	if !s.Again {
		if err := configure(at); err != nil {
			return err
		}
		if err := restore(at, s.Overlay); err != nil {
			return err
		}
	}
	if err := enterRoot(root); err != nil {
		return err
	}
	if s.Bare {
		// where Command runs things, as on other hosts
		if err := os.Mkdir("/sys/fs/cgroup/init.scope", 0o755); err != nil {
			return err
		}
		if err := os.WriteFile("/run/bare", nil, 0o644); err != nil {
			return err
		}
		signal.Ignore(unix.SIGCHLD) // the kernel reaps what comes to PID 1
		const sleep = "/bin/sleep"
		return fmt.Errorf("%s: %w", sleep, unix.Exec(sleep, []string{sleep, "infinity"}, nil))
	}
	env := []string{"container=rkt-testkit", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	const systemd = "/lib/systemd/systemd"
	return fmt.Errorf("%s: %w", systemd, unix.Exec(systemd, []string{systemd, "--unit=multi-user.target"}, env))
}

// makeRoot mounts the overlay over the machine's files that is the host's root.
func (s *setup) makeRoot(root string) error {
	if s.Tmpfs {
		if err := (mount{"tmpfs", s.Dir, "tmpfs", 0, "mode=0755"}).make(); err != nil {
			return err
		}
	}
	upper, work := filepath.Join(s.Dir, "upper"), filepath.Join(s.Dir, "work")
	for _, dir := range []string{root, upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	overlays := s.Overlay
	if s.Again {
		overlays = nil
	}
	for _, dir := range overlays { // copied, since overlayfs takes no lower directory that is inside another
		if out, err := exec.Command("cp", "-a", dir+"/.", upper).CombinedOutput(); err != nil {
			return fmt.Errorf("cp -a %s: %w: %s", dir, err, out)
		}
	}
	if err := (mount{"overlay", root, "overlay", 0, "lowerdir=" + cmp.Or(s.Root, "/") + ",upperdir=" + upper +
		",workdir=" + work}).make(); err != nil {
		return err
	}
	return nil
}

// mountHost mounts what a host has in its root, and makes the links of /dev.
func (s *setup) mountHost(at func(string) string) error {
	data, srv := filepath.Join(s.Dir, "rkt"), filepath.Join(s.Dir, "srv")
	for _, dir := range []string{data, srv} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	mounts := []mount{
		{"proc", at("/proc"), "proc", 0, ""},
		{"sysfs", at("/sys"), "sysfs", 0, ""},
		{"cgroup2", at("/sys/fs/cgroup"), "cgroup2", 0, ""},
		{"tmpfs", at("/run"), "tmpfs", 0, "mode=0755"},
		{"tmpfs", at("/tmp"), "tmpfs", 0, "mode=1777"},
		{"tmpfs", at("/dev"), "tmpfs", 0, "mode=0755"},
		{"devpts", at("/dev/pts"), "devpts", 0, "newinstance,ptmxmode=0666,mode=620,gid=5"},
		{"tmpfs", at("/dev/shm"), "tmpfs", 0, "mode=1777"},
		{data, at("/var/lib/rkt"), "", unix.MS_BIND, ""},
		{srv, at("/srv"), "", unix.MS_BIND, ""}, // an overlay can't show its files with other owners, as a disk can
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty", "fuse", "net/tun", "kmsg"} {
		mounts = append(mounts, mount{"/dev/" + name, at("/dev/" + name), "", unix.MS_BIND, ""})
	}
	for _, dir := range s.Binds {
		mounts = append(mounts, mount{dir, at(dir), "", unix.MS_BIND | unix.MS_REC, ""})
	}
	for _, m := range mounts {
		if err := m.make(); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1",
		"stderr": "fd/2", "ptmx": "pts/ptmx"} {
		if err := os.Symlink(target, at("/dev/"+link)); err != nil {
			return err
		}
	}
	return nil
}

// enterRoot makes root the root of the mount namespace, and its mounts shared.
func enterRoot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	// A systemd that finds itself in a container leaves / private; on a real host it is shared, and
	// only then can a test see a mount that leaks.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("/: %w", err)
	}
	return unix.Sethostname([]byte("testhost"))
}

// make mounts, having made the target. A device that the machine does not have is left out.
func (m mount) make() error {
	if strings.HasPrefix(m.source, "/dev/") {
		if _, err := os.Stat(m.source); err != nil {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(m.target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(m.target, nil, 0o666); err != nil {
			return err
		}
	} else if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("%s on %s: %w", m.source, m.target, err)
	}
	return nil
}

// emptied are directories of the machine's administrator.
var emptied = []string{"/etc/systemd/system", "/var/log/journal", "/var/lib/cni", "/etc/rkt", "/etc/cni/net.d"}

// restore puts what overlays have in such directories there again.
func restore(at func(string) string, overlays []string) error {
	for _, overlay := range overlays {
		for _, dir := range emptied {
			if _, err := os.Stat(overlay + dir); err != nil {
				continue
			}
			if out, err := exec.Command("cp", "-a", overlay+dir+"/.", at(dir)).CombinedOutput(); err != nil {
				return fmt.Errorf("cp -a %s: %w: %s", overlay+dir, err, out)
			}
		}
	}
	return nil
}

// configure makes the machine's own configuration a new host's: no unit of the machine's
// administrator, an identity of its own, a journal that is kept.
func configure(at func(string) string) error {
	for _, dir := range emptied {
		if err := os.RemoveAll(at(dir)); err != nil {
			return err
		}
		if err := os.MkdirAll(at(dir), 0o755); err != nil {
			return err
		}
	}
	for _, unit := range masked {
		if err := os.Symlink("/dev/null", at("/etc/systemd/system/"+unit)); err != nil {
			return err
		}
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"/etc/machine-id": strings.ReplaceAll(string(id), "-", ""),
		"/etc/hostname":   "testhost\n",
		"/etc/hosts":      "127.0.0.1 localhost testhost\n::1 localhost\n",
		"/etc/fstab":      "",
	} {
		if err := os.Remove(at(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(at(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
