// Package testkit boots disposable systemd hosts for tests: a real systemd, machined, logind, D-Bus
// and journald in namespaces, on an overlay of the machine's own root, up in half a second and gone
// without a trace. It needs root and Linux 5.7.
package testkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/rkt-toolkit/rkt/lib/host/cgroup"
	"golang.org/x/sys/unix"
)

// Config describes a host.
type Config struct {
	// an empty directory, on a disk, for all that the host writes; on an overlay, nothing of it
	// outlives the host
	Dir     string
	Root    string   // a tree with the files of another release; "" is the machine's own root
	Overlay []string // directories whose content lies over the machine's root, the last on top
	Binds   []string // directories of the machine that the host has as they are, at the same path
	Bare    bool     // no systemd: PID 1 does nothing
	// Dir is that of a host that was closed, which boots again: with its files, except for /run,
	// /tmp and /dev
	Again bool
}

// Host is a running one.
type Host struct {
	pid    int // of its systemd, as the machine numbers it
	cgroup string
	scope  *os.File // the cgroup that commands run in
	done   chan error
	config Config
}

// initName is what the program calls itself when it is to become a host's systemd.
const initName = "testkit-init"

// setup is what Boot tells the process that becomes the host's systemd.
type setup struct {
	Config
	Tmpfs bool // Dir is on an overlay itself, which takes no second one
}

// Main turns the process into a host's systemd if it was started for that. Every program that calls
// Boot calls it first.
func Main() {
	if os.Args[0] != initName {
		return
	}
	runtime.LockOSThread()
	var s setup
	err := json.Unmarshal([]byte(os.Args[1]), &s)
	if err == nil {
		err = s.become()
	}
	fmt.Fprintf(os.Stderr, "disposable host: %v\n", err)
	os.Exit(1)
}

// Boot starts a host and returns when its systemd has reached the state "running".
func Boot(ctx context.Context, c Config) (*Host, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("disposable host: needs root")
	}
	h := &Host{config: c, done: make(chan error, 1)}
	var fs unix.Statfs_t
	if err := unix.Statfs(c.Dir, &fs); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Dir, err)
	}
	if c.Again && fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return nil, fmt.Errorf("disposable host: %s is on an overlay, and so nothing is left to boot again", c.Dir)
	}
	text, err := json.Marshal(setup{c, fs.Type == unix.OVERLAYFS_SUPER_MAGIC})
	if err != nil {
		return nil, err
	}
	if h.cgroup, err = makeCgroup(); err != nil {
		return nil, fmt.Errorf("disposable host: %w", err)
	}
	group, err := os.Open(h.cgroup)
	if err != nil {
		return nil, err
	}
	defer group.Close()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	said, err := os.Create(filepath.Join(c.Dir, "boot.log"))
	if err != nil {
		return nil, err
	}
	defer said.Close()
	cmd := &exec.Cmd{Path: self, Args: []string{initName, string(text)}, Stdout: said, Stderr: said, Dir: "/"}
	cmd.SysProcAttr = &unix.SysProcAttr{
		// The cgroup's namespace is made by the child, which is in the group by then.
		Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		UseCgroupFD: true, CgroupFD: int(group.Fd()),
		Setsid: true, Pdeathsig: unix.SIGKILL,
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the parent-death signal is sent when this thread ends
		err := cmd.Start()
		started <- err
		if err == nil {
			h.done <- cmd.Wait()
		}
		runtime.UnlockOSThread()
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("disposable host: %w", err), cgroup.Remove(h.cgroup, 0))
	}
	h.pid = cmd.Process.Pid
	if err := h.await(ctx); err != nil {
		log, _ := os.ReadFile(said.Name())
		return nil, errors.Join(fmt.Errorf("disposable host: %w\n%s", err, log), h.Close())
	}
	return h, nil
}

// await waits until systemd says that it is up.
func (h *Host) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		ready := []string{"systemctl", "is-system-running", "--wait"}
		if h.config.Bare {
			ready = []string{"sh", "-c", "test -e /run/bare && echo running"}
		}
		out := h.ask(ctx, ready)
		switch state := strings.TrimSpace(string(out)); state {
		case "running":
			return nil
		case "degraded":
			failed := h.ask(ctx, []string{"systemctl", "--failed", "--no-legend", "--plain"})
			return fmt.Errorf("units failed: %s", failed)
		}
		select {
		case err := <-h.done:
			h.done <- err
			return fmt.Errorf("its systemd ended: %v", err)
		case <-ctx.Done():
			return fmt.Errorf("not up within a minute: %s", out)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// askTimeout is how long a command may take in a host that starts, which can miss the event that
// it waits for.
const askTimeout = 10 * time.Second

// ask returns what a command says in the host, or what it has said when askTimeout is over.
func (h *Host) ask(ctx context.Context, command []string) []byte {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cmd := h.Command(ctx, command[0], command[1:]...)
	cmd.WaitDelay = time.Second // the command goes on without nsenter
	out, _ := cmd.CombinedOutput()
	return out
}

// waitDelay is how long a command's output is waited for when the command has ended: a process that
// it left may have it open.
const waitDelay = 10 * time.Second

// Command prepares a command that runs inside the host as root, with an environment of its own.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	args = append([]string{"--target", strconv.Itoa(h.pid), "--all", "--", name}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.WaitDelay = waitDelay
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
		"LANG=C.UTF-8", "TERM=" + os.Getenv("TERM")}
	if h.scope == nil { // systemd makes the group soon after its start
		h.scope, _ = os.Open(filepath.Join(h.cgroup, "init.scope"))
	}
	if h.scope != nil {
		cmd.SysProcAttr = &unix.SysProcAttr{UseCgroupFD: true, CgroupFD: int(h.scope.Fd())}
	}
	return cmd
}

// Close takes the host down at once and reports what it left on the machine: nothing, if all is
// well.
func (h *Host) Close() error {
	if err := unix.Kill(h.pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
		// takes every process in its PID namespace with it
		return fmt.Errorf("disposable host: %w", err)
	}
	<-h.done
	if h.scope != nil {
		h.scope.Close()
	}
	if err := cgroup.Remove(h.cgroup, 10*time.Second); err != nil {
		return fmt.Errorf("disposable host left behind: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if strings.Contains(string(mounts), h.config.Dir+"/") {
		return fmt.Errorf("disposable host left mounts below %s", h.config.Dir)
	}
	return nil
}

// makeCgroup makes a group for a host in the unified hierarchy, wherever the machine has that.
func makeCgroup() (string, error) {
	own, err := cgroup.Own()
	if err != nil {
		return "", err
	}
	for _, dir := range own {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return os.MkdirTemp(dir, "rkt-testhost-")
		}
	}
	return "", errors.New("no cgroup2 hierarchy is mounted; mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified")
}
