package prepare

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/appc/spec/schema/types"
	"github.com/appc/spec/schema/types/resource"
	"github.com/rkt-toolkit/rkt/lib/isolator"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// Limits are isolators of the command line, each in the place of the image's; "" and nil are as the image says.
type Limits struct {
	Memory    string // appc's quantities: 128M, 1Gi
	CPU       string // 500m is half of a processor
	CPUShares *int
	OOMScore  *int
	Seccomp   string // mode=retain|remove[,errno=NAME],SYSCALL-or-@group,…
}

// isolate settles what an app may do and use, by its isolators (appc spec, ace.md) and the command line.
func isolate(out *stage1.App, a App, isolators types.Isolators, o Options) error {
	for _, i := range isolators {
		why, err := honour(out, i)
		if err == nil && why != "" && o.Strict {
			err = errors.New(why)
		}
		if err != nil {
			return fmt.Errorf("isolator %s: %w", i.Name, err)
		}
		if why != "" {
			o.Warn(fmt.Sprintf("app %q: isolator %s: %s", out.Name, i.Name, why))
		}
	}
	if a.Limits.Memory != "" {
		if err := quantity(&out.MemoryMax, a.Limits.Memory, 1); err != nil {
			return fmt.Errorf("--memory=%s: %w", a.Limits.Memory, err)
		}
	}
	if a.Limits.CPU != "" {
		if err := quantity(&out.CPUMilli, a.Limits.CPU, 1000); err != nil {
			return fmt.Errorf("--cpu=%s: %w", a.Limits.CPU, err)
		}
	}
	if a.Limits.CPUShares != nil {
		if _, err := types.NewLinuxCPUShares(*a.Limits.CPUShares); err != nil {
			return fmt.Errorf("--cpu-shares=%d: %w", *a.Limits.CPUShares, err)
		}
		out.CPUWeight = weight(*a.Limits.CPUShares)
	}
	if a.Limits.OOMScore != nil {
		if _, err := types.NewLinuxOOMScoreAdj(*a.Limits.OOMScore); err != nil {
			return fmt.Errorf("--oom-score-adj=%d: %w", *a.Limits.OOMScore, err)
		}
		out.OOMScoreAdj = a.Limits.OOMScore
	}
	if a.Limits.Seccomp != "" {
		filter, err := parseSeccomp(a.Limits.Seccomp)
		if err != nil {
			return fmt.Errorf("--seccomp=%s: %w", a.Limits.Seccomp, err)
		}
		out.Seccomp = filter
		if unknown := unknownCalls(a.Limits.Seccomp); len(unknown) > 0 { // systemd would pass over them in silence
			why := fmt.Sprintf("--seccomp: the host's systemd knows no system call %s", strings.Join(unknown, ", "))
			if o.Strict {
				return errors.New(why)
			}
			o.Warn(fmt.Sprintf("app %q: %s", out.Name, why))
		}
	}
	if o.AllCalls {
		out.Seccomp = stage1.Seccomp{}
	}
	return nil
}

// limitPod settles what the apps of a pod may use together, by the isolators of its manifest.
func limitPod(o Options) (stage1.Isolation, error) {
	var pod stage1.App
	for _, i := range o.Manifest.Isolators {
		why := "not honoured: is one of an app, not of a pod"
		switch i.Value().(type) {
		case *types.LinuxCPUShares, *types.ResourceMemory, *types.ResourceCPU, *types.ResourceBlockBandwidth, *types.ResourceBlockIOPS,
			*types.ResourceNetworkBandwidth:
			var err error
			if why, err = honour(&pod, i); err != nil {
				return pod.Isolation, fmt.Errorf("isolator %s: %w", i.Name, err)
			}
		}
		if why != "" && o.Strict {
			return pod.Isolation, fmt.Errorf("isolator %s of the pod: %s", i.Name, why)
		}
		if why != "" {
			o.Warn(fmt.Sprintf("isolator %s of the pod: %s", i.Name, why))
		}
	}
	return pod.Isolation, nil
}

// honour takes one isolator, and says why it is not honoured if it is not.
func honour(out *stage1.App, i types.Isolator) (why string, err error) {
	switch v := i.Value().(type) {
	case *types.LinuxCapabilitiesRetainSet, *types.LinuxCapabilitiesRevokeSet: // see capabilities
	case *types.LinuxNoNewPrivileges:
		out.NoNewPrivileges = bool(*v)
	case *types.LinuxOOMScoreAdj:
		n := int(*v)
		out.OOMScoreAdj = &n
	case *types.LinuxCPUShares:
		out.CPUWeight = weight(int(*v))
	case *types.LinuxSeccompRetainSet:
		out.Seccomp, err = seccomp(true, string(v.Errno()), entries(v.Set()))
	case *types.LinuxSeccompRemoveSet:
		out.Seccomp, err = seccomp(false, string(v.Errno()), entries(v.Set()))
	case *types.LinuxSELinuxContext:
		out.SELinuxContext = fmt.Sprintf("%s:%s:%s:%s", v.User(), v.Role(), v.Type(), v.Level())
		if strings.ContainsFunc(out.SELinuxContext, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '%' }) {
			return "", fmt.Errorf("%q is no context", out.SELinuxContext)
		}
		if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
			out.SELinuxContext = ""
			return "not honoured: the host has no SELinux", nil
		}
	case *types.ResourceMemory:
		err = limit(&out.MemoryMax, v.Limit(), 1)
	case *types.ResourceCPU:
		err = limit(&out.CPUMilli, v.Limit(), 1000)
	case *types.ResourceNetworkBandwidth:
		return "not honoured: a network with CNI's bandwidth plugin limits a pod", nil
	case *types.ResourceBlockBandwidth:
		err = limit(&out.BlockBandwidth, v.Limit(), 1)
	case *types.ResourceBlockIOPS:
		err = limit(&out.BlockIOPS, v.Limit(), 1)
	case *isolator.AppArmor:
		if _, err := os.Stat("/sys/kernel/security/apparmor"); err != nil {
			return "not honoured: the host has no AppArmor", nil
		}
		out.AppArmorProfile = v.Profile
	default:
		return "not honoured: unknown", nil
	}
	return "", err
}

// weight is a number of shares (2 to 262144, 1024 by default) as a weight of cgroup v2 (1 to 10000), as systemd converts them.
func weight(shares int) uint64 { return min(max(uint64(shares)*100/1024, 1), 10000) }

// quantity reads one of appc's quantities; scale is what one is to be counted in: 1000 for thousandths.
func quantity(to *uint64, s string, scale int64) error {
	q, err := resource.ParseQuantity(s)
	if err != nil { // which shows the regular expression
		return errors.New("not a quantity such as 128M, 1Gi, 2 or 500m")
	}
	return limit(to, &q, scale)
}

func limit(to *uint64, q *resource.Quantity, scale int64) error {
	if q == nil {
		return nil
	}
	if q.Cmp(*resource.NewQuantity(math.MaxInt64/scale, resource.DecimalSI)) > 0 {
		return fmt.Errorf("%s is more than can be counted", q)
	}
	n := q.Value()
	if scale == 1000 {
		n = q.MilliValue()
	}
	if n <= 0 {
		return fmt.Errorf("%s is not more than nothing", q)
	}
	*to = uint64(n)
	return nil
}

func entries(set []types.LinuxSeccompEntry) []string {
	var names []string
	for _, e := range set {
		names = append(names, string(e))
	}
	return names
}

// unknownCalls are the system calls named in a --seccomp of which the host's systemd has never heard; none if it can't be asked. Groups, and
// what images say, have calls of other machines with good reason.
func unknownCalls(flag string) (unknown []string) {
	out, err := exec.Command("systemd-analyze", "--no-pager", "syscall-filter", "@known").Output()
	known := strings.Fields(string(out))
	if err != nil || !slices.Contains(known, "read") {
		return nil
	}
	for name := range strings.SplitSeq(flag, ",") {
		if callName.MatchString(name) && !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// validErrno tells whether there is an error of that name.
func validErrno(name string) bool {
	for e := range unix.Errno(256) {
		if e != 0 && unix.ErrnoName(e) == name {
			return true
		}
	}
	return slices.Contains([]string{"EWOULDBLOCK", "EDEADLOCK", "ENOTSUP"}, name)
}

// parseSeccomp reads rkt's --seccomp.
func parseSeccomp(s string) (stage1.Seccomp, error) {
	mode, errno := "", ""
	var names []string
	for item := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(item, "=")
		switch {
		case !ok:
			names = append(names, item)
		case key == "mode" && mode != "" || key == "errno" && errno != "":
			return stage1.Seccomp{}, fmt.Errorf("%s is said twice", key)
		case key == "mode":
			mode = value
		case key == "errno":
			errno = value
		default:
			return stage1.Seccomp{}, fmt.Errorf("%q is none of mode=, errno=, a system call, a group", item)
		}
	}
	if mode != "retain" && mode != "remove" {
		return stage1.Seccomp{}, errors.New("mode is neither retain nor remove")
	}
	if len(names) == 0 {
		return stage1.Seccomp{}, errors.New("no system call is named")
	}
	return seccomp(mode == "retain", errno, names)
}

var (
	callName  = regexp.MustCompile(`^[a-z0-9_]+$`)
	groupName = regexp.MustCompile(`^[a-z0-9-]+$`)
)

// groups are appc's, rkt's and Docker's names of sets of system calls. The white lists are by their purpose: systemd's set for services of
// a system, which leaves out what the black lists have. All pods have systemd-nspawn's own filter, whose set is about the same, besides.
var groups = map[string][]string{
	"@rkt/default-whitelist":    {"@system-service"},
	"@docker/default-whitelist": {"@system-service"},
	"@rkt/default-blacklist":    denied,
	"@docker/default-blacklist": denied,
}

// denied is what Docker's default profile forbids.
var denied = strings.Fields(`_sysctl acct add_key bpf clock_adjtime clock_settime create_module delete_module finit_module get_kernel_syms
	get_mempolicy init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind mount move_pages name_to_handle_at
	nfsservctl open_by_handle_at perf_event_open personality pivot_root process_vm_readv process_vm_writev ptrace query_module quotactl
	reboot request_key set_mempolicy setns settimeofday stime swapoff swapon sysfs umount umount2 unshare uselib userfaultfd ustat vm86
	vm86old`)

// seccomp is a filter that lets only the named calls pass, or none of them.
func seccomp(retain bool, errno string, names []string) (stage1.Seccomp, error) {
	if errno != "" && !validErrno(errno) {
		return stage1.Seccomp{}, fmt.Errorf("%q is no error number's name", errno)
	}
	s := stage1.Seccomp{Retain: retain, Errno: errno}
	for _, name := range names {
		systemd, isSystemd := strings.CutPrefix(name, "@systemd/")
		switch {
		case name == "@appc.io/all":
			if !retain {
				return s, errors.New("without any system call no program runs")
			}
			return stage1.Seccomp{}, nil
		case name == "@appc.io/empty":
		case groups[name] != nil:
			s.Calls = append(s.Calls, groups[name]...)
		case isSystemd && groupName.MatchString(systemd):
			s.Calls = append(s.Calls, "@"+systemd)
		case callName.MatchString(name):
			s.Calls = append(s.Calls, name)
		default:
			return s, fmt.Errorf("%q is neither a system call nor a known group", name)
		}
	}
	slices.Sort(s.Calls)
	s.Calls = slices.Compact(s.Calls)
	if len(s.Calls) == 0 && retain {
		return s, errors.New("without any system call no program runs")
	}
	return s, nil
}
