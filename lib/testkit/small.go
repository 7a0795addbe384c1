package testkit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Small is a virtual machine that has a kernel and the files of one tree, and nothing of the
// machine's: a small host. It ends when its init powers it off.
type Small struct {
	Dir     string   // an empty directory for what the virtual machine needs
	Kernel  string   // a directory with an unpacked kernel package, see test/kernel.sh
	Tree    string   // the root file system, which is read-only; its init is /sbin/init
	Memory  int      // MiB
	Data    int      // MiB of a disk with an empty ext4, /dev/vdb
	Modules []string // that the kernel loads before it starts the init
}

// smallInit is the init of the initial file system: it loads modules, and goes on to the tree.
const smallInit = `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do /bin/busybox insmod $module; done
/bin/busybox mount -t squashfs -o ro /dev/vda /root
exec /bin/busybox switch_root /root /sbin/init
`

// Run boots the virtual machine. It returns what the machine prints, and how large what it boots
// from is, in bytes: the kernel, its initial file system and the image of the tree.
func (s Small) Run(ctx context.Context) (console string, size int64, err error) {
	v := VM{Kernel: s.Kernel}
	kernel, version, err := v.kernel()
	if err != nil {
		return "", 0, err
	}
	at := func(name string) string { return filepath.Join(s.Dir, name) }
	initrd, image, data, log := at("initrd.gz"), at("image"), at("data"), at("console")
	if err := s.initramfs(initrd, version); err != nil {
		return "", 0, fmt.Errorf("initial file system: %w", err)
	}
	for _, command := range [][]string{
		{"mksquashfs", s.Tree, image, "-quiet", "-no-progress", "-all-root", "-comp", "zstd"},
		{"mke2fs", "-q", "-t", "ext4", data, strconv.Itoa(s.Data) + "M"},
	} {
		if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
			return "", 0, fmt.Errorf("%s: %w\n%s", command[0], err, out)
		}
	}
	for _, file := range []string{kernel, initrd, image} {
		st, err := os.Stat(file)
		if err != nil {
			return "", 0, err
		}
		size += st.Size()
	}
	machine := startChild(ctx, at("qemu.log"), "qemu-system-x86_64", "-accel", "tcg,thread=multi",
		"-cpu", "max", "-smp", "2", "-m", strconv.Itoa(s.Memory), "-nodefaults", "-no-reboot", "-display", "none",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet loglevel=4",
		"-serial", "file:"+log, "-drive", "file="+image+",if=virtio,format=raw,readonly=on",
		"-drive", "file="+data+",if=virtio,format=raw,cache=unsafe")
	defer machine.stop()
	err = machine.wait()
	text, _ := os.ReadFile(log)
	return strings.ReplaceAll(string(text), "\r\n", "\n"), size, err
}

// initramfs writes the file system that the kernel starts with.
func (s Small) initramfs(to, version string) error {
	all, err := modules(s.Kernel, version)
	if err != nil {
		return err
	}
	order, err := all.order(s.Modules, nil)
	if err != nil {
		return err
	}
	archive := &newc{}
	for _, dir := range []string{"bin", "dev", "modules", "root"} {
		archive.add(dir, 0o40755, nil)
	}
	archive.add("init", 0o100755, []byte(smallInit))
	files := map[string]string{"bin/busybox": "/bin/busybox"}
	for i, name := range order {
		files[fmt.Sprintf("modules/%03d-%s", i, name)] = all[name]
	}
	for name, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		archive.add(name, 0o100755, text)
	}
	plain := strings.TrimSuffix(to, ".gz")
	if err := os.WriteFile(plain, archive.end(), 0o600); err != nil {
		return err
	}
	if out, err := exec.Command("gzip", "-9", plain).CombinedOutput(); err != nil {
		return fmt.Errorf("gzip: %w: %s", err, out)
	}
	return nil
}
