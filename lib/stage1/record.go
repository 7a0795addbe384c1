package stage1

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Record is what a process of an app may be and do at most. It is decided when the pod is prepared,
// and kept where nothing in the pod can write.
type Record struct {
	Name              string
	UID               uint32
	GID               uint32
	SupplementaryGIDs []uint32
	Capabilities      []string // the bounding set
	NoNewPrivileges   bool
	OwnPIDs           bool   // it has a PID namespace of its own
	AppArmorProfile   string // "" is that of whoever executes it
	SELinuxLabel      string
}

// RecordOf returns the record of an app that has this configuration. Its seccomp filter, if it has
// one, is in FilterFile, assembled.
func RecordOf(name string, config *specs.Spec) (*Record, error) {
	if config.Process == nil || config.Process.Capabilities == nil {
		return nil, errors.New("no process, or no capabilities, not even an empty list")
	}
	p := config.Process
	r := &Record{Name: name, UID: p.User.UID, GID: p.User.GID, SupplementaryGIDs: p.User.AdditionalGids,
		Capabilities: append([]string{}, p.Capabilities.Bounding...), NoNewPrivileges: p.NoNewPrivileges,
		OwnPIDs: OwnPIDs(config), AppArmorProfile: p.ApparmorProfile, SELinuxLabel: p.SelinuxLabel}
	return r, r.check()
}

func (r *Record) check() error {
	if slices.Contains(append(slices.Clone(r.SupplementaryGIDs), r.UID, r.GID), math.MaxUint32) {
		// "unchanged" to setresuid(2)
		return errors.New("an ID that is none")
	}
	if r.Capabilities == nil {
		return errors.New("no capability bounding set")
	}
	_, err := r.Bounding()
	return err
}

// Bounding is the capability bounding set, a bit each.
func (r *Record) Bounding() (set uint64, err error) {
	return CapabilitySet(r.Capabilities)
}

// CapabilitySet is a set of capabilities by their names in capabilities(7), a bit each.
func CapabilitySet(names []string) (set uint64, err error) {
	for _, name := range names {
		bit, ok := capabilityBits[name]
		if !ok {
			return 0, fmt.Errorf("unknown capability %q", name)
		}
		set |= 1 << bit
	}
	return set, nil
}

// capabilityBits has all of AllCapabilities.
var capabilityBits = map[string]uint{
	"CAP_AUDIT_CONTROL": unix.CAP_AUDIT_CONTROL, "CAP_AUDIT_READ": unix.CAP_AUDIT_READ,
	"CAP_AUDIT_WRITE": unix.CAP_AUDIT_WRITE, "CAP_BLOCK_SUSPEND": unix.CAP_BLOCK_SUSPEND, "CAP_BPF": unix.CAP_BPF,
	"CAP_CHECKPOINT_RESTORE": unix.CAP_CHECKPOINT_RESTORE, "CAP_CHOWN": unix.CAP_CHOWN,
	"CAP_DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "CAP_DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH,
	"CAP_FOWNER": unix.CAP_FOWNER, "CAP_FSETID": unix.CAP_FSETID, "CAP_IPC_LOCK": unix.CAP_IPC_LOCK,
	"CAP_IPC_OWNER": unix.CAP_IPC_OWNER, "CAP_KILL": unix.CAP_KILL, "CAP_LEASE": unix.CAP_LEASE,
	"CAP_LINUX_IMMUTABLE": unix.CAP_LINUX_IMMUTABLE, "CAP_MAC_ADMIN": unix.CAP_MAC_ADMIN,
	"CAP_MAC_OVERRIDE": unix.CAP_MAC_OVERRIDE, "CAP_MKNOD": unix.CAP_MKNOD, "CAP_NET_ADMIN": unix.CAP_NET_ADMIN,
	"CAP_NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "CAP_NET_BROADCAST": unix.CAP_NET_BROADCAST,
	"CAP_NET_RAW": unix.CAP_NET_RAW, "CAP_PERFMON": unix.CAP_PERFMON, "CAP_SETFCAP": unix.CAP_SETFCAP,
	"CAP_SETGID": unix.CAP_SETGID, "CAP_SETPCAP": unix.CAP_SETPCAP, "CAP_SETUID": unix.CAP_SETUID,
	"CAP_SYSLOG": unix.CAP_SYSLOG, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_SYS_BOOT": unix.CAP_SYS_BOOT,
	"CAP_SYS_CHROOT": unix.CAP_SYS_CHROOT, "CAP_SYS_MODULE": unix.CAP_SYS_MODULE, "CAP_SYS_NICE": unix.CAP_SYS_NICE,
	"CAP_SYS_PACCT": unix.CAP_SYS_PACCT, "CAP_SYS_PTRACE": unix.CAP_SYS_PTRACE, "CAP_SYS_RAWIO": unix.CAP_SYS_RAWIO,
	"CAP_SYS_RESOURCE": unix.CAP_SYS_RESOURCE, "CAP_SYS_TIME": unix.CAP_SYS_TIME,
	"CAP_SYS_TTY_CONFIG": unix.CAP_SYS_TTY_CONFIG, "CAP_WAKE_ALARM": unix.CAP_WAKE_ALARM,
}
