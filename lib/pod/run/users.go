package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/durable"
	"github.com/rkt-toolkit/rkt/lib/host/userns"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// shifted is how a pod with a user namespace of its own sees files.
type shifted struct {
	userns.Range
	ns     *os.File
	copies map[string]bool // sources of volumes that the pod has a copy of, since they can't be shifted
	label  string          // the SELinux context of these copies; "" for none
}

func (s *shifted) close() {
	if s != nil {
		s.ns.Close()
	}
}

// hostReason is why a pod needs the host's users, and what to do to have others.
type hostReason struct{ why, instead string }

// settleUsers decides whose users the pod has, and records it: its own, or nil for the host's, with
// a warning that says why. What the command line evidently wants of the host counts for more than
// users of its own, unless these were asked for.
func settleUsers(p *poddir.Pod, apps []*app, o Options) (users *shifted, warning string, err error) {
	reserved, err := p.Reserved()
	if err != nil {
		return nil, "", err
	}
	if reserved == nil {
		users, err = formerUsers(p, apps)
		return users, "", err
	}
	reason, err := needsHost(p, apps, o, reserved)
	if err != nil {
		return nil, "", err
	}
	if reason == nil {
		if users, reason, err = tryUsers(p, reserved.Range, o); err != nil {
			return nil, "", err
		}
	}
	switch {
	case reason == nil:
		giveOwn(apps)
		return users, "", durable.WriteForNow(p.Path(poddir.UsersFile), []byte(users.String()+"\n"), 0o600)
	case reserved.Mode == poddir.UsersOwn:
		return nil, "", fmt.Errorf("--private-users=yes: %s; %s, or use --private-users=no", reason.why, reason.instead)
	}
	if err := os.Remove(p.Path(poddir.UsersFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// of a start that failed
		return nil, "", err
	}
	return nil, "root in the pod is root on the host, because " + reason.why + "; ask for that with --private-users=no",
		nil
}

// formerUsers are those of a pod that reserved none: the host's, or what an older rkt gave it.
func formerUsers(p *poddir.Pod, apps []*app) (*shifted, error) {
	own, err := p.Users()
	if err != nil || own == nil {
		return nil, err
	}
	ns, err := own.Open()
	if err != nil {
		return nil, err
	}
	giveOwn(apps)
	return &shifted{Range: *own, ns: ns}, nil
}

// giveOwn is for apps whose pod has users of its own. They can't use TunDevice: their network is
// the host's root's.
func giveOwn(apps []*app) {
	for _, a := range apps {
		a.Final.NoTun = true
	}
}

// hostCapabilities have an effect in the host's user namespace only: the kernel asks for them there
// (capable(), not ns_capable()), or in the one that owns the pod's network namespace, which is the
// host's. Not here are those that count for what the pod's users own: files, processes, IPC, and
// the namespaces of the pod's init.
var hostCapabilities = []string{
	"CAP_AUDIT_CONTROL",   // the kernel's audit rules
	"CAP_AUDIT_READ",      // the kernel's audit log
	"CAP_BLOCK_SUSPEND",   // keeping the machine awake
	"CAP_BPF",             // programs in the kernel
	"CAP_IPC_LOCK",        // more locked memory than RLIMIT_MEMLOCK
	"CAP_LEASE",           // leases on files of others
	"CAP_LINUX_IMMUTABLE", // chattr(1)
	"CAP_MAC_ADMIN",       // the host's security policy
	"CAP_MAC_OVERRIDE",    // the same
	"CAP_NET_ADMIN",       // interfaces, routes and firewall of the network namespace, /dev/net/tun
	"CAP_NET_RAW",         // packets in it. Every app has it: this is for who names it (see poddir.Reserved)
	"CAP_PERFMON",         // watching the kernel
	"CAP_SYSLOG",          // the kernel's log
	"CAP_SYS_ADMIN",       // mounts of disks, quotas, and much else
	"CAP_SYS_MODULE",      // modules of the kernel
	"CAP_SYS_NICE",        // real-time and higher priorities
	"CAP_SYS_PACCT",       // the host's accounting
	"CAP_SYS_RAWIO",       // ports and memory of the machine
	"CAP_SYS_RESOURCE",    // hard limits and OOM scores beyond one's own
	"CAP_SYS_TIME",        // the host's clock
	"CAP_SYS_TTY_CONFIG",  // hanging up terminals
	"CAP_WAKE_ALARM",      // waking the machine
}

// needsHost looks for what the pod is to have that takes the host's users; nil if there is nothing.
func needsHost(p *poddir.Pod, apps []*app, o Options, reserved *poddir.Reserved) (*hostReason, error) {
	network, err := namespace(p)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "pod "+p.UUID+": "))
	}
	switch {
	case network == "":
		return &hostReason{"its network is the host's (--net=host)", "give it another"}, nil
	case o.HostIPC:
		return &hostReason{"its IPC namespace is the host's (--ipc=parent)", "leave that out"}, nil
	case o.Writable:
		return &hostReason{"it may write to /proc and /sys (--insecure-options=paths)", "leave that out"}, nil
	}
	for _, a := range apps {
		if a.Prepared == nil || a.Prepared.Process.Capabilities == nil || reserved.Mode == poddir.UsersOwn {
			// who says yes wants them in the pod
			continue
		}
		for _, c := range a.Prepared.Process.Capabilities.Bounding {
			asked := slices.Contains(reserved.Asked, c) || !slices.Contains(stage1.DefaultCapabilities, c)
			if asked && slices.Contains(hostCapabilities, c) {
				return &hostReason{fmt.Sprintf("app %q has %s, which counts with the host's users only", a.Name, c),
					"leave it out"}, nil
			}
		}
	}
	devices, err := readDevices(p, apps)
	if err != nil {
		return nil, err
	}
	for device := range devices {
		return &hostReason{"it has the host's device " + device, "leave that out"}, nil
	}
	binds, err := readMounts(p)
	for _, b := range binds {
		if b.Slave {
			return &hostReason{"what the host mounts later appears in " + b.Source + " (propagation=slave)",
				"leave that out"}, nil
		}
	}
	return nil, err
}

// tryUsers makes a user namespace, and tries whether all that the pod is to have can be shifted.
func tryUsers(p *poddir.Pod, own userns.Range, o Options) (*shifted, *hostReason, error) {
	binds, err := readMounts(p)
	if err != nil {
		return nil, nil, err
	}
	names, err := readNames(p, o.Hostname)
	if err != nil {
		return nil, nil, err
	}
	ns, err := own.Open()
	if err != nil {
		return nil, &hostReason{err.Error() + " (sysctl user.max_user_namespaces)", "allow it"}, nil
	}
	users := &shifted{Range: own, ns: ns, copies: map[string]bool{}}
	tried := map[string]bool{}
	try := func(name string, recursive bool) error {
		if tried[name] {
			return nil
		}
		tried[name] = true
		return userns.Try(name, recursive, ns)
	}
	for _, dir := range []string{filepath.Join(p.DataDir(), "cas"), p.Dir(), p.Path(poddir.SystemdLink)} {
		if err := try(dir, false); err != nil && !errors.Is(err, fs.ErrNotExist) {
			users.close()
			return nil, &hostReason{dir + ": " + inShort(err), "put the data directory on another (--dir)"}, nil
		}
	}
	for _, b := range names.volumes(nil, binds) {
		if !filepath.IsAbs(b.Source) {
			continue
		}
		err := try(b.Source, b.Recursive)
		if err == nil || errors.Is(err, fs.ErrNotExist) { // what is not there is told when it is to be mounted
			continue
		}
		if canCopy(b, o.Env) {
			users.copies[b.Source] = true
			continue
		}
		users.close()
		instead := "mount it from another"
		if info, err := os.Stat(b.Source); err == nil && info.Mode().IsRegular() {
			instead = "mount it read-only, of which the pod has a copy"
		}
		return nil, &hostReason{b.Source + ": " + inShort(err), instead}, nil
	}
	return users, nil, nil
}

// inShort is the text of an error without that of the system call, where there is a better one.
func inShort(err error) string {
	if errors.Is(err, userns.ErrCannotShift) {
		err = userns.ErrCannotShift
	}
	return err.Error()
}

// powerful are capabilities with which root of a pod that has the host's users gets out of it: by
// mounts and namespaces, by way of the pod's systemd, by the numbers of files, or by the kernel
// itself.
var powerful = []string{"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_SYS_MODULE", "CAP_SYS_RAWIO",
	"CAP_BPF"}

// hostsRoot tells what an app amounts to that has such a capability in a pod with the host's users;
// "" is nothing.
func hostsRoot(apps []*app) string {
	for _, a := range apps {
		if a.Prepared == nil || a.Prepared.Process.Capabilities == nil {
			continue
		}
		for _, c := range powerful {
			if slices.Contains(a.Prepared.Process.Capabilities.Bounding, c) {
				return fmt.Sprintf("app %q has %s, and the pod has the host's users: who takes over that app is root "+
					"of the host; --private-users makes it root of the pod", a.Name, c)
			}
		}
	}
	return ""
}

// shiftOver mounts the image store and the pod's files over themselves, shifted, so that whatever
// comes from there is.
func shiftOver(p *poddir.Pod, users *shifted) error {
	dirs := []string{filepath.Join(p.DataDir(), "cas")}
	for _, name := range []string{poddir.RootDir, poddir.ConfigDir, poddir.OverlayDir, poddir.VolumesDir} {
		if info, err := os.Lstat(p.Path(name)); err == nil && info.IsDir() {
			dirs = append(dirs, p.Path(name))
		}
	}
	for _, dir := range dirs {
		if err := userns.Over(dir, users.ns); err != nil {
			return fmt.Errorf("user namespace: %w", err)
		}
	}
	return nil
}

// enterNetwork moves the calling thread, and the program that it executes, into the pod's network
// namespace.
func enterNetwork(p *poddir.Pod) error {
	path, err := namespace(p)
	if err != nil || path == "" {
		return err
	}
	ns, err := os.Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
