package testkit

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Guest turns the process into the systemd of a virtual machine if it is that machine's init. The
// program of test/vm calls it first.
func Guest() {
	if os.Getpid() != 1 {
		return
	}
	err := becomeGuest()
	fmt.Fprintf(os.Stderr, "virtual machine: %v\n", err)
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func becomeGuest() error {
	text, err := os.ReadFile("/guest.json")
	if err != nil {
		return err
	}
	var g guest
	if err := json.Unmarshal(text, &g); err != nil {
		return err
	}
	at := func(path string) string { return filepath.Join("/root", path) }
	if err := g.mountRoot(at); err != nil {
		return err
	}
	for _, dir := range g.Overlay {
		cmd := &exec.Cmd{Path: "/bin/cp", Args: []string{"cp", "-a", "/machine" + dir + "/.", "/"},
			SysProcAttr: &syscall.SysProcAttr{Chroot: "/root"}}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("cp -a %s: %w: %s", dir, err, out)
		}
	}
	if err := configure(at); err != nil {
		return err
	}
	// Settings of the kernel are the virtual machine's own.
	if err := os.Remove(at("/etc/systemd/system/systemd-sysctl.service")); err != nil {
		return err
	}
	if err := g.command(at); err != nil {
		return err
	}
	if err := moveRoot(at); err != nil {
		return err
	}
	if g.Bare {
		return fmt.Errorf("%s: %w", commandFile, unix.Exec(commandFile, []string{commandFile},
			[]string{"PATH=" + searchPath}))
	}
	const systemd = "/lib/systemd/systemd"
	return fmt.Errorf("%s: %w", systemd, unix.Exec(systemd, []string{systemd, "--unit=multi-user.target"},
		[]string{"PATH=" + searchPath}))
}

// mountRoot mounts the host's files at /root, with an overlay, and what a machine has in them. The
// kernel's modules are inserted as they are needed.
func (g *guest) mountRoot(at func(string) string) (err error) {
	for _, m := range []mount{{"devtmpfs", "/dev", "devtmpfs", 0, ""}, {"proc", "/proc", "proc", 0, ""},
		{"sysfs", "/sys", "sysfs", 0, ""}} {
		if err := m.make(); err != nil {
			return err
		}
	}
	if err := insert(g.Early); err != nil {
		return err
	}
	for _, m := range []mount{
		{"host", "/lower", "virtiofs", unix.MS_RDONLY, ""},
		{"tmpfs", "/rw", "tmpfs", 0, "mode=0755"},
		{"tmpfs", "/rw/upper", "", 0, ""}, {"tmpfs", "/rw/work", "", 0, ""},
		{"overlay", "/root", "overlay", 0,
			"lowerdir=" + filepath.Join("/lower", g.Root) + ",upperdir=/rw/upper,workdir=/rw/work"},
	} {
		if m.fstype == "" {
			err = os.MkdirAll(m.target, 0o755)
		} else {
			err = m.make()
		}
		if err != nil {
			return err
		}
	}
	for i := range g.Late {
		g.Late[i] = filepath.Join("/lower", g.Late[i])
	}
	if err := insert(g.Late); err != nil {
		return err
	}
	for _, m := range []mount{
		{"tmpfs", at("/run"), "tmpfs", 0, "mode=0755"}, {"tmpfs", at("/tmp"), "tmpfs", 0, "mode=1777"},
		{"tmpfs", at("/var/tmp"), "tmpfs", 0, "mode=1777"},
		{"/dev/vda", at("/var/lib/rkt"), "ext4", 0, ""},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("%s on %s: %w", m.source, m.target, err)
		}
	}
	return (mount{"/lower", at("/machine"), "", unix.MS_BIND, ""}).make()
}

// moveRoot makes /root the root of the machine.
func moveRoot(at func(string) string) error {
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		if err := unix.Mount(dir, at(dir), "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	if err := unix.Chdir("/root"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	// As systemd does on a host, and does not where it takes the machine for a container, by a
	// /.dockerenv of the machine that is booted over.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("/: %w", err)
	}
	return nil
}

// commandFile is a script that runs the command and ends the machine.
const commandFile = "/etc/vm-command"

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// insert loads modules; one that is there, or that this machine has no device for, is in nobody's
// way.
func insert(files []string) error {
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		parameters := ""
		if filepath.Base(name) == "ifb.ko" { // which makes two devices by itself
			parameters = "numifbs=0"
		}
		err = unix.FinitModule(int(file.Fd()), parameters, 0)
		file.Close()
		if err != nil && err != unix.EEXIST && err != unix.ENODEV {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	return nil
}

// command makes the unit that runs the command when the machine is up, and ends the machine.
func (g guest) command(at func(string) string) error {
	devices := map[string]string{}
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return err
	}
	for _, file := range names {
		name, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		devices[strings.TrimSpace(string(name))] = "/dev/" + filepath.Base(filepath.Dir(file))
	}
	quoted := ""
	for _, arg := range g.Args {
		quoted += " '" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
	}
	env := ""
	for _, kv := range g.Env {
		env += " '" + strings.ReplaceAll(kv, "'", `'\''`) + "'"
	}
	script := "#!/bin/sh\nsystemctl is-system-running --wait >/dev/null 2>&1\ncd '" + g.WorkDir + "' 2>/dev/null\n" +
		"env -i PATH=" + searchPath + " HOME=/root LANG=C.UTF-8" + env + quoted + " >" + devices["out"] + " 2>" +
		devices["err"] + " </dev/null\n" +
		"echo $? >" + devices["status"] + "\nsync\nsystemctl poweroff --force --force\n"
	unit := "[Unit]\nDescription=What this machine is " +
		"for\nAfter=multi-user.target\n\n[Service]\nType=simple\nExecStart=" + commandFile + "\n"
	for name, text := range map[string]string{commandFile: script, "/etc/systemd/system/vm-command.service": unit} {
		if err := os.WriteFile(at(name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	wants := at("/etc/systemd/system/multi-user.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	for _, unit := range []string{"serial-getty@.service", "getty@.service"} {
		if err := os.Symlink("/dev/null", at("/etc/systemd/system/"+unit)); err != nil {
			return err
		}
	}
	return os.Symlink("../vm-command.service", filepath.Join(wants, "vm-command.service"))
}
