package seccomp

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// peers has a line for each system call of the tables: its name, and when Docker's and Podman's
// default profile allow it: "yes", "no", or a list with commas of capabilities, one of which is
// enough, and of "args", for some arguments. TestPeers compares it with the profiles.
//
//go:embed peers
var peers string

// nested are the system calls by which a container runtime or a sandbox makes namespaces and
// mounts.
var nested = []string{"chroot", "clone", "clone3", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr",
	"move_mount", "open_tree", "pivot_root", "setdomainname", "sethostname", "setns", "umount", "umount2", "unshare"}

// namespaces are the flags of clone(2) that make one.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET

// personalities are what personality(2) may be asked for: PER_LINUX and PER_LINUX32, each with
// UNAME26 and without, and which one it is.
var personalities = []uint64{0, 8, 0x20000, 0x20008, 0xffffffff}

// families are the address families of sockets. AF_ALG, AF_VSOCK and old protocols are not among
// them.
var families = []uint64{unix.AF_UNSPEC, unix.AF_UNIX, unix.AF_INET, unix.AF_BRIDGE, unix.AF_ATMPVC, unix.AF_X25,
	unix.AF_INET6,
	unix.AF_NETBEUI, unix.AF_SECURITY, unix.AF_KEY, unix.AF_NETLINK, unix.AF_PACKET, unix.AF_ASH, unix.AF_RDS,
	unix.AF_SNA,
	unix.AF_PPPOX, unix.AF_LLC, unix.AF_IB, unix.AF_MPLS, unix.AF_CAN, unix.AF_TIPC, unix.AF_BLUETOOTH, unix.AF_IUCV,
	unix.AF_RXRPC, unix.AF_PHONET, unix.AF_IEEE802154, unix.AF_NFC, unix.AF_KCM, unix.AF_QIPCRTR, unix.AF_SMC,
	unix.AF_XDP,
	unix.AF_MCTP}

// A verdict is whether a profile allows a call.
type verdict int

const (
	never     verdict = iota
	sometimes         // by its arguments
	always
)

// Default returns the rules of the default profile for an app with these capabilities. What it
// allows is what both Docker's and Podman's default profile allow. Rules are in the order in which
// they apply.
func Default(capabilities []string) (rules []specs.LinuxSyscall) {
	allowed := specs.LinuxSyscall{Action: specs.ActAllow}
	for line := range strings.Lines(peers) {
		f := strings.Fields(line)
		switch min(verdictOf(f[1], capabilities), verdictOf(f[2], capabilities)) {
		case always:
			allowed.Names = append(allowed.Names, f[0])
		case sometimes:
			rules = append(rules, byArguments(f[0], capabilities)...)
		case never:
			if f[0] == "clone3" { // has its flags in memory; the C library falls back to clone
				rules = append(rules, refuse(f[0], unix.ENOSYS))
			}
		}
	}
	return append(rules, allowed)
}

func verdictOf(condition string, capabilities []string) verdict {
	v := never
	for c := range strings.SplitSeq(condition, ",") {
		switch {
		case c == "yes" || slices.Contains(capabilities, c):
			return always
		case c == "args":
			v = sometimes
		}
	}
	return v
}

// byArguments are the rules of a call that is allowed with some arguments.
func byArguments(call string, capabilities []string) (rules []specs.LinuxSyscall) {
	var values []uint64
	switch call {
	case "clone":
		return []specs.LinuxSyscall{{Names: []string{call}, Action: specs.ActAllow,
			Args: []specs.LinuxSeccompArg{{Value: namespaces, Op: specs.OpMaskedEqual}}}}
	case "personality":
		values = personalities
	case "socket":
		values = families
		if !slices.Contains(capabilities, "CAP_AUDIT_WRITE") {
			rule := refuse(call, unix.EINVAL)
			rule.Args = []specs.LinuxSeccompArg{{Value: unix.AF_NETLINK, Op: specs.OpEqualTo},
				{Index: 2, Value: unix.NETLINK_AUDIT, Op: specs.OpEqualTo}}
			rules = append(rules, rule)
		}
	}
	for _, value := range values {
		rules = append(rules, specs.LinuxSyscall{Names: []string{call}, Action: specs.ActAllow,
			Args: []specs.LinuxSeccompArg{{Value: value, Op: specs.OpEqualTo}}})
	}
	if call == "socket" { // what a kernel without the family says
		rules = append(rules, refuse(call, unix.EAFNOSUPPORT))
	}
	return rules
}

func refuse(call string, errno unix.Errno) specs.LinuxSyscall {
	number := uint(errno)
	return specs.LinuxSyscall{Names: []string{call}, Action: specs.ActErrno, ErrnoRet: &number}
}

// Profile returns the filter in the words of OCI, for an app with these capabilities; nil if there
// is none. Names are what Expand has returned. Of rules for one call the first applies whose
// conditions hold. User namespaces are for apps with Nested or CAP_SYS_ADMIN, whatever calls are
// named; the default profile, which Reduce stays within, has that too.
func (c Calls) Profile(capabilities []string) (*specs.LinuxSeccomp, error) {
	if c.All {
		return nil, nil
	}
	profile, err := c.profile(capabilities)
	if err == nil && !c.Reduce && !c.Nested && !slices.Contains(capabilities, "CAP_SYS_ADMIN") {
		profile.Syscalls = append(noUserNamespaces(), profile.Syscalls...)
	}
	return profile, err
}

// noUserNamespaces are the rules that deny making a user namespace, as the filter of a pod does
// that has the host's users.
func noUserNamespaces() []specs.LinuxSyscall {
	rule := refuse("clone", unix.EPERM)
	rule.Names = append(rule.Names, "unshare")
	rule.Args = []specs.LinuxSeccompArg{{Value: unix.CLONE_NEWUSER, ValueTwo: unix.CLONE_NEWUSER,
		Op: specs.OpMaskedEqual}}
	return []specs.LinuxSyscall{rule, refuse("clone3", unix.ENOSYS)} // the latter has its flags in memory
}

func (c Calls) profile(capabilities []string) (*specs.LinuxSeccomp, error) {
	if c.isEmpty() {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, nil
	}
	action, err := c.action()
	if err != nil {
		return nil, err
	}
	profile := &specs.LinuxSeccomp{DefaultAction: action.Action, DefaultErrnoRet: action.ErrnoRet}
	allow := specs.LinuxSyscall{Names: c.Names, Action: specs.ActAllow}
	switch {
	case c.Retain && c.Reduce:
		profile.Syscalls = only(Default(capabilities), c.Names)
	case c.Retain:
		if c.Nested {
			allow.Names = slices.Concat(allow.Names, nested)
		}
		profile.Syscalls = []specs.LinuxSyscall{allow}
		if c.Default {
			profile.Syscalls = append(profile.Syscalls, Default(capabilities)...)
		}
	case c.Reduce:
		profile.DefaultAction, profile.DefaultErrnoRet = refuse("", unix.EPERM).Action, refuse("", unix.EPERM).ErrnoRet
		if len(c.Names) > 0 {
			action.Names = c.Names
			profile.Syscalls = []specs.LinuxSyscall{action}
		}
		profile.Syscalls = append(profile.Syscalls, Default(capabilities)...)
	default:
		action.Names = c.Names
		profile = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{action}}
	}
	return profile, nil
}

// action is what a call that may not be made ends with.
func (c Calls) action() (specs.LinuxSyscall, error) {
	switch {
	case c.Errno != "":
		errno, ok := Errno(c.Errno)
		if !ok {
			return specs.LinuxSyscall{}, fmt.Errorf("seccomp filter: unknown error %q", c.Errno)
		}
		return refuse("", errno), nil
	case c.Default:
		return refuse("", unix.EPERM), nil
	}
	return specs.LinuxSyscall{Action: specs.ActKillProcess}, nil
}

// only returns the rules without the calls that are not named.
func only(rules []specs.LinuxSyscall, names []string) (left []specs.LinuxSyscall) {
	for _, rule := range rules {
		rule.Names = slices.DeleteFunc(slices.Clone(rule.Names), func(name string) bool {
			_, found := slices.BinarySearch(names, name)
			return !found
		})
		if len(rule.Names) > 0 {
			left = append(left, rule)
		}
	}
	return left
}
