package testkit

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// VM is a virtual machine that boots Debian's kernel with the machine's own files, runs one
// command, and is gone: for what needs the cgroups of a whole machine, or what its kernel
// does not have.
type VM struct {
	Dir     string   // an empty directory for what the virtual machine needs
	Kernel  string   // a directory with an unpacked kernel package, see test/kernel.sh
	Root    string   // a tree with the files of another release; "" is the machine's own root
	Overlay []string // directories whose content lies over the machine's root, the last on top
	// no systemd: the command is run by PID 1, without a network and without the modules that pods
	// need
	Bare    bool
	Disk    string   // a second disk, /dev/vdb, as qemu names it; its flushes are passed on
	Memory  int      // MiB; 0 is 2048
	Options string   // further words of the kernel's command line
	Env     []string // of the command, besides PATH and HOME
	Args    []string // the command; it has the machine's files below /machine, and where it would have them there
	WorkDir string

	Stdout, Stderr io.Writer
}

// ports are the guest's ends of its standard output and error and exit status, in this order.
var ports = []string{"out", "err", "status"}

// guest is what the virtual machine is told in its initial file system.
type guest struct {
	Bare        bool
	Early, Late []string // modules: paths in the initial file system, and on the machine
	Root        string
	Overlay     []string
	Env, Args   []string
	WorkDir     string
}

// Modules that the kernel package has, and that the root file system and pods need.
var (
	earlyModules = []string{"virtio_pci", "virtio_blk", "virtio_console", "virtiofs", "overlay"}
	lateModules  = []string{"autofs4", "nf_tables", "nft_compat", "nft_chain_nat", "nf_nat", "xt_comment",
		"xt_conntrack", "xt_MASQUERADE", "xt_addrtype", "xt_mark", "xt_multiport", "xt_nat", "xt_tcpudp", "bridge",
		"br_netfilter", "veth", "ipvlan", "macvlan", "ifb", "sch_tbf", "sch_ingress", "cls_u32", "act_mirred",
		"af_packet"}
)

// Run boots the virtual machine and returns the command's exit status. KVM is used where the
// machine has it.
func (v VM) Run(ctx context.Context) (status int, err error) {
	if runtime.GOARCH != "amd64" {
		return 0, errors.New("virtual machine: only for amd64")
	}
	image, version, err := v.kernel()
	if err != nil {
		return 0, fmt.Errorf("virtual machine: %w", err)
	}
	init := filepath.Join(v.Dir, "init")
	build := exec.CommandContext(ctx, "go", "build", "-o", init, "github.com/rkt-toolkit/rkt/test/vm")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("virtual machine: init: %w\n%s", err, out)
	}
	if err := v.initramfs(init, version); err != nil {
		return 0, fmt.Errorf("virtual machine: initial file system: %w", err)
	}
	disk := filepath.Join(v.Dir, "disk")
	if out, err := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-E",
		"lazy_itable_init=1,lazy_journal_init=1", disk, "8G").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("virtual machine: disk: %w\n%s", err, out)
	}
	files := startChild(ctx, filepath.Join(v.Dir, "virtiofsd.log"), "/bin/sh", "-c", virtiofsd,
		filepath.Join(v.Dir, "fs.sock"))
	defer files.stop()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(v.Dir, "fs.sock")); err == nil {
			break
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(v.Dir, "virtiofsd.log"))
			return 0, fmt.Errorf("virtual machine: virtiofsd does not start\n%s", log)
		}
	}
	machine := startChild(ctx, filepath.Join(v.Dir, "qemu.log"), "qemu-system-x86_64", v.arguments(image)...)
	defer machine.stop()
	stop := make(chan struct{})
	copied := make(chan struct{})
	go v.copyOutput(stop, copied)
	err = machine.wait()
	close(stop)
	<-copied
	console, _ := os.ReadFile(filepath.Join(v.Dir, "console.log"))
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(v.Dir, "qemu.log"))
		return 0, fmt.Errorf("virtual machine: %w\n%s", err, log)
	}
	text, err := os.ReadFile(filepath.Join(v.Dir, "status"))
	if err == nil {
		status, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err != nil {
		return 0, fmt.Errorf("virtual machine: ended without a status: %s", console[max(0, len(console)-4000):])
	}
	return status, nil
}

// virtiofsd is a script that becomes what shows the machine's files to the guest, at the socket $0:
// a program of its own, or in Debian 12 and before qemu's, whose options are others. An overlay
// can't be mounted over the machine's mounts once they are announced.
const virtiofsd = `own=/usr/libexec/virtiofsd
test ! -e $own || exec $own --socket-path="$0" --shared-dir=/ --sandbox=chroot --xattr --cache=always \
	--no-announce-submounts
exec /usr/lib/qemu/virtiofsd --socket-path="$0" -o source=/ -o sandbox=chroot -o xattr -o cache=always`

// kernel finds the kernel's image, and its version.
func (v VM) kernel() (image, version string, err error) {
	images, err := filepath.Glob(filepath.Join(v.Kernel, "boot/vmlinuz-*"))
	if err != nil || len(images) == 0 {
		return "", "", fmt.Errorf("no kernel in %s: run make deps", v.Kernel)
	}
	image = images[len(images)-1]
	return image, strings.TrimPrefix(filepath.Base(image), "vmlinuz-"), nil
}

func (v VM) arguments(image string) []string {
	memory := strconv.Itoa(v.Memory)
	if v.Memory == 0 {
		memory = "2048"
	}
	args := []string{"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", memory, "-nodefaults",
		"-no-reboot", "-display", "none", "-object", "memory-backend-memfd,id=mem,share=on,size=" + memory + "M",
		"-numa", "node,memdev=mem", "-kernel", image, "-initrd", filepath.Join(v.Dir, "initrd"), "-append",
		"console=ttyS0 panic=-1 quiet loglevel=4 systemd.gpt_auto=0 " + v.Options, "-serial",
		"file:" + filepath.Join(v.Dir, "console.log"), "-chardev", "socket,id=fs,path=" + filepath.Join(v.Dir,
			"fs.sock"), "-device", "vhost-user-fs-pci,chardev=fs,tag=host",
		"-drive", "file=" + filepath.Join(v.Dir, "disk") + ",if=virtio,format=raw,cache=unsafe", "-device",
		"virtio-serial-pci"}
	if v.Disk != "" {
		args = append(args, "-drive", "file="+v.Disk+",if=virtio,format=raw,cache=writeback")
	}
	for _, port := range ports {
		args = append(args, "-chardev", "file,id="+port+",path="+filepath.Join(v.Dir, port), "-device",
			"virtserialport,chardev="+port+",name="+port)
	}
	return args
}

// copyOutput copies what the command prints, as it comes.
func (v VM) copyOutput(stop, done chan struct{}) {
	defer close(done)
	var at [2]int64
	for last := false; ; {
		for i, to := range []io.Writer{v.Stdout, v.Stderr} {
			text, err := os.ReadFile(filepath.Join(v.Dir, ports[i]))
			if err == nil && int64(len(text)) > at[i] && to != nil {
				to.Write(text[at[i]:])
				at[i] = int64(len(text))
			}
		}
		if last {
			return
		}
		select {
		case <-stop:
			last = true
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// child is a process that ends with this one.
type child struct {
	cmd  *exec.Cmd
	done chan error
}

func startChild(ctx context.Context, log, name string, args ...string) *child {
	c := &child{cmd: exec.CommandContext(ctx, name, args...), done: make(chan error, 1)}
	file, err := os.Create(log)
	if err != nil {
		c.done <- err
		return c
	}
	c.cmd.Stdout, c.cmd.Stderr = file, file
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	go func() {
		runtime.LockOSThread() // the parent-death signal is sent when this thread ends
		c.done <- c.cmd.Run()
		file.Close()
		runtime.UnlockOSThread()
	}()
	return c
}

func (c *child) wait() error {
	err := <-c.done
	c.done <- err
	return err
}

func (c *child) stop() {
	for range 100 {
		select {
		case err := <-c.done:
			c.done <- err
			return
		case <-time.After(10 * time.Millisecond):
			if c.cmd.Process != nil {
				c.cmd.Process.Kill()
			}
		}
	}
}

// initramfs writes the file system that the kernel starts with: the init, the modules to reach the
// machine's own files, and what the guest has to know.
func (v VM) initramfs(init, version string) error {
	all, err := modules(v.Kernel, version)
	if err != nil {
		return err
	}
	g := guest{Bare: v.Bare, Root: v.Root, Overlay: v.Overlay, Env: v.Env, Args: v.Args, WorkDir: v.WorkDir}
	archive := &newc{}
	early, err := all.order(earlyModules, nil)
	if err != nil {
		return err
	}
	for _, module := range early {
		text, err := os.ReadFile(all[module])
		if err != nil {
			return err
		}
		name := "modules-" + module
		archive.add(name, 0o100644, text)
		g.Early = append(g.Early, "/"+name)
	}
	if !v.Bare {
		late, err := all.order(lateModules, early)
		if err != nil {
			return err
		}
		for _, module := range late {
			g.Late = append(g.Late, all[module])
		}
	}
	text, err := os.ReadFile(init)
	if err != nil {
		return err
	}
	archive.add("init", 0o100755, text)
	config, err := json.Marshal(g)
	if err != nil {
		return err
	}
	archive.add("guest.json", 0o100644, config)
	for _, dir := range []string{"dev", "proc", "sys", "lower", "rw", "root"} {
		archive.add(dir, 0o40755, nil)
	}
	return os.WriteFile(filepath.Join(v.Dir, "initrd"), archive.end(), 0o600)
}

// moduleFiles are a kernel's modules: their files by name.
type moduleFiles map[string]string

// modules finds those of a version in an unpacked kernel package.
func modules(kernel, version string) (moduleFiles, error) {
	root, err := filepath.Abs(filepath.Join(kernel, "lib/modules", version))
	if err != nil {
		return nil, err
	}
	all := moduleFiles{}
	err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok && err == nil {
			all[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	return all, err
}

// order lists modules with those that they depend on before them, without those that are loaded
// already. A module that the kernel has built in is left out.
func (m moduleFiles) order(names, loaded []string) (list []string, err error) {
	var add func(name string) error
	add = func(name string) error {
		if m[name] == "" || slices.Contains(loaded, name) || slices.Contains(list, name) {
			return nil
		}
		file, err := elf.Open(m[name])
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Section(".modinfo").Data()
		if err != nil {
			return err
		}
		for field := range bytes.SplitSeq(info, []byte{0}) {
			value, ok := strings.CutPrefix(string(field), "depends=")
			if !ok || value == "" {
				continue
			}
			for other := range strings.SplitSeq(value, ",") {
				if err := add(strings.ReplaceAll(other, "-", "_")); err != nil {
					return err
				}
			}
		}
		list = append(list, name)
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
	}
	return list, nil
}

// newc is an archive as the kernel takes it
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type newc struct {
	b     bytes.Buffer
	inode int
}

func (n *newc) add(name string, mode uint32, content []byte) {
	n.inode++
	fmt.Fprintf(&n.b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", n.inode, mode, 0, 0, 1, 0,
		len(content), 0, 0, 0, 0, len(name)+1, 0, name)
	n.pad()
	n.b.Write(content)
	n.pad()
}

func (n *newc) pad() { n.b.Write(make([]byte, (4-n.b.Len()%4)%4)) }

func (n *newc) end() []byte {
	n.add("TRAILER!!!", 0, nil)
	return n.b.Bytes()
}
