package prepare

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/appc/spec/schema/types"
	"github.com/appc/spec/schema/types/resource"
	"github.com/rkt-toolkit/rkt/lib/host/apparmor"
	"github.com/rkt-toolkit/rkt/lib/host/program"
	"github.com/rkt-toolkit/rkt/lib/host/seccomp"
	"github.com/rkt-toolkit/rkt/lib/host/selinux"
	"github.com/rkt-toolkit/rkt/lib/image/isolator"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// Limits are isolators of the command line, each in the place of the image's; "" and nil are as the
// image says.
type Limits struct {
	Memory    string // appc's quantities: 128M, 1Gi
	CPU       string // 500m is half of a CPU
	CPUShares *int
	OOMScore  *int
	Seccomp   string // mode=retain|remove[,errno=NAME],SYSCALL-or-@group,…
}

// isolate settles what an app may do and use, by its isolators (appc spec, ace.md) and the command
// line.
func isolate(out *stage1.App, a App, isolators types.Isolators, o Options) error {
	out.Seccomp = seccomp.Calls{Reduce: true}
	for _, i := range isolators {
		if overridden(i, a.Limits) {
			continue
		}
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
	if err := setLimits(out, a.Limits, o); err != nil {
		return err
	}
	if a.Limits.Seccomp != "" {
		if err := setFilter(out, a.Limits.Seccomp, o); err != nil {
			return err
		}
	}
	if o.AllCalls {
		out.Seccomp = seccomp.Calls{All: true}
	}
	return nil
}

// setLimits sets what the command line says of memory, CPU and OOM score.
func setLimits(out *stage1.App, limits Limits, o Options) error {
	if limits.Memory != "" {
		if err := quantity(&out.MemoryMax, limits.Memory, memory); err != nil {
			return fmt.Errorf("--memory=%s: %w", limits.Memory, err)
		}
	}
	if limits.CPU != "" {
		if err := quantity(&out.CPUMilli, limits.CPU, cpu); err != nil {
			return fmt.Errorf("--cpu=%s: %w", limits.CPU, err)
		}
		if n := runtime.NumCPU(); out.CPUMilli > uint64(n)*1000 {
			o.Warn(fmt.Sprintf("app %q: --cpu=%s limits nothing: there are %d CPUs (1 is one of them, 500m half of "+
				"one)", out.Name, limits.CPU, n))
		}
	}
	if limits.CPUShares != nil {
		if _, err := types.NewLinuxCPUShares(*limits.CPUShares); err != nil {
			return fmt.Errorf("--cpu-shares=%d: %w", *limits.CPUShares, err)
		}
		out.CPUWeight = weight(*limits.CPUShares)
	}
	if limits.OOMScore != nil {
		if _, err := types.NewLinuxOOMScoreAdj(*limits.OOMScore); err != nil {
			return fmt.Errorf("--oom-score-adj=%d: %w", *limits.OOMScore, err)
		}
		out.OOMScoreAdj = limits.OOMScore
	}
	return nil
}

// setFilter sets the seccomp filter of the command line.
func setFilter(out *stage1.App, text string, o Options) error {
	filter, err := parseSeccomp(text)
	if err != nil {
		return fmt.Errorf("--seccomp=%s: %w", text, err)
	}
	out.Seccomp = filter
	if unknown := unknownCalls(text); len(unknown) > 0 { // systemd would pass over them in silence
		why := fmt.Sprintf("--seccomp: the host's systemd knows no system call %s", strings.Join(unknown, ", "))
		if o.Strict {
			return errors.New(why)
		}
		o.Warn(fmt.Sprintf("app %q: %s", out.Name, why))
	}
	return nil
}

// limitPod settles what the apps of a pod may use together, by the isolators of its manifest.
func limitPod(o Options) (stage1.Isolation, error) {
	var pod stage1.App
	for _, i := range o.Manifest.Isolators {
		why := "not honoured: is one of an app, not of a pod"
		switch i.Value().(type) {
		case *types.LinuxCPUShares, *types.ResourceMemory, *types.ResourceCPU, *types.ResourceBlockBandwidth,
			*types.ResourceBlockIOPS,
			*types.ResourceNetworkBandwidth:
			var err error
			if why, err = honour(&pod, i); err != nil {
				return pod.Isolation, fmt.Errorf("isolator %s: %w", i.Name, err)
			}
		case *types.UnixSysctl: // see setSysctl
			why = ""
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
		out.Seccomp, err = reducing(callFilter(true, string(v.Errno()), entries(v.Set())))
	case *types.LinuxSeccompRemoveSet:
		out.Seccomp, err = reducing(callFilter(false, string(v.Errno()), entries(v.Set())))
	case *types.LinuxSELinuxContext:
		out.SELinuxContext = fmt.Sprintf("%s:%s:%s:%s", v.User(), v.Role(), v.Type(), v.Level())
		if strings.ContainsFunc(out.SELinuxContext, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '%' }) {
			return "", fmt.Errorf("%q is no context", out.SELinuxContext)
		}
		if !selinux.Enabled() {
			out.SELinuxContext = ""
			return "not honoured: the host has no SELinux", nil
		}
	case *types.ResourceMemory:
		err = limit(&out.MemoryMax, v.Limit(), memory)
	case *types.ResourceCPU:
		err = limit(&out.CPUMilli, v.Limit(), cpu)
	case *types.ResourceNetworkBandwidth:
		return "not honoured: a network with CNI's bandwidth plugin limits a pod", nil
	case *types.ResourceBlockBandwidth:
		err = limit(&out.BlockBandwidth, v.Limit(), bandwidth)
	case *types.ResourceBlockIOPS:
		err = limit(&out.BlockIOPS, v.Limit(), operations)
	case *isolator.AppArmor:
		if !apparmor.Enabled() {
			return "not honoured: the host has no AppArmor", nil
		}
		out.AppArmorProfile = v.Profile
	case *types.UnixSysctl:
		return "not honoured: is one of a pod, not of an app; add --sysctl=NAME=VALUE before the image", nil
	default:
		return "not honoured: unknown", nil
	}
	return "", err
}

// weight is a number of shares (2 to 262144, 1024 by default) as a weight of cgroup v2 (1 to
// 10000), as systemd converts them.
func weight(shares int) uint64 { return min(max(uint64(shares)*100/1024, 1), 10000) }

// overridden reports whether a flag takes the place of an isolator, which then need not be one that
// can be honoured.
func overridden(i types.Isolator, l Limits) bool {
	switch i.Value().(type) {
	case *types.ResourceMemory:
		return l.Memory != ""
	case *types.ResourceCPU:
		return l.CPU != ""
	}
	return false
}

// unit is what a quantity counts.
type unit struct {
	scale int64 // what one of it is counted as: 1000 for thousandths
	least int64 // what makes sense
	why   string
}

// In appc's quantities m is a thousandth, and 64m for 64M is a limit that no app starts with.
var (
	memory = unit{1, 4096, "is less than a page of 4096 bytes; M is a million bytes, Mi 1024*1024, and m a " +
		"thousandth: write 64M or 64Mi"}
	bandwidth  = unit{1, 1, "is less than a byte per second; M is a million, and m a thousandth: write 64M"}
	operations = unit{1, 1, "is less than one per second; k is a thousand, and m a thousandth: write 1k"}
	cpu        = unit{1000, 1, "is less than a thousandth of a CPU; write 500m for half of one"}
)

// quantity reads one of appc's quantities.
func quantity(to *uint64, s string, u unit) error {
	q, err := resource.ParseQuantity(s)
	if err != nil { // which shows the regular expression
		return errors.New("not a quantity such as 128M, 1Gi, 2 or 500m")
	}
	return limit(to, &q, u)
}

// limit refuses a quantity that rounding would make another.
func limit(to *uint64, q *resource.Quantity, u unit) error {
	if q == nil {
		return nil
	}
	if q.Cmp(*resource.NewQuantity(math.MaxInt64/u.scale, resource.DecimalSI)) > 0 {
		return fmt.Errorf("%s is more than can be counted", q)
	}
	least := resource.NewQuantity(u.least, resource.DecimalSI)
	n := q.Value()
	if u.scale == 1000 {
		least, n = resource.NewMilliQuantity(u.least, resource.DecimalSI), q.MilliValue()
	}
	if q.Cmp(*least) < 0 {
		return fmt.Errorf("%s %s", q, u.why)
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

// unknownCalls are the system calls named in a --seccomp of which the host's systemd has never
// heard; none if it can't be asked. Groups, and what images say, have calls of other machines with
// good reason.
func unknownCalls(flag string) (unknown []string) {
	out, err := program.Command(context.Background(), "systemd-analyze", "--no-pager", "syscall-filter",
		"@known").Output()
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

// parseSeccomp reads rkt's --seccomp.
func parseSeccomp(s string) (seccomp.Calls, error) {
	mode, errno := "", ""
	var names []string
	for item := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(item, "=")
		switch {
		case !ok:
			names = append(names, item)
		case key == "mode" && mode != "" || key == "errno" && errno != "":
			return seccomp.Calls{}, fmt.Errorf("%s is said twice", key)
		case key == "mode":
			mode = value
		case key == "errno":
			errno = value
		default:
			return seccomp.Calls{}, fmt.Errorf("%q is not one of mode=, errno=, a system call, a group", item)
		}
	}
	if mode != "retain" && mode != "remove" {
		return seccomp.Calls{}, errors.New("mode is neither retain nor remove")
	}
	if len(names) == 0 {
		return seccomp.Calls{}, errors.New("no system call is named")
	}
	return callFilter(mode == "retain", errno, names)
}

var (
	callName  = regexp.MustCompile(`^[a-z0-9_]+$`)
	groupName = regexp.MustCompile(`^[a-z0-9-]+$`)
)

// denied is what appc's @docker/default-blacklist and @rkt/default-blacklist forbid.
var denied = strings.Fields(`
	_sysctl acct add_key bpf clock_adjtime clock_settime create_module delete_module finit_module
	get_kernel_syms get_mempolicy init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie
	mbind mount move_pages name_to_handle_at nfsservctl open_by_handle_at perf_event_open personality pivot_root
	process_vm_readv process_vm_writev ptrace query_module quotactl reboot request_key set_mempolicy setns
	settimeofday stime swapoff swapon sysfs umount umount2 unshare uselib userfaultfd ustat vm86 vm86old
`)

// callFilter is a filter that lets only the named calls pass, or none of them. One that takes calls
// away leaves of the rest what the default profile allows.
func callFilter(retain bool, errno string, names []string) (seccomp.Calls, error) {
	if _, ok := seccomp.Errno(errno); errno != "" && !ok {
		return seccomp.Calls{}, fmt.Errorf("%q is no error number's name", errno)
	}
	c := seccomp.Calls{Retain: retain, Errno: errno}
	for _, name := range names {
		systemd, isSystemd := strings.CutPrefix(name, "@systemd/")
		switch {
		case name == "@appc.io/all":
			if !retain {
				return c, errors.New("without any system call no program runs")
			}
			return seccomp.Calls{}, nil
		case name == "@appc.io/empty":
		case retain && (name == "@rkt/default-whitelist" || name == "@docker/default-whitelist"):
			c.Default = true
		case retain && name == "@rkt/nested":
			c.Default, c.Nested = true, true
		case name == "@rkt/default-blacklist" || name == "@docker/default-blacklist":
			c.Names = append(c.Names, denied...)
		case isSystemd && groupName.MatchString(systemd):
			c.Names = append(c.Names, "@"+systemd)
		case callName.MatchString(name):
			c.Names = append(c.Names, name)
		default:
			return c, fmt.Errorf("%q is neither a system call nor a known group", name)
		}
	}
	slices.Sort(c.Names)
	c.Names = slices.Compact(c.Names)
	if len(c.Names) == 0 && retain && !c.Default {
		return c, errors.New("without any system call no program runs")
	}
	c.Reduce = !retain && len(c.Names) > 0
	return c, nil
}

// reducing has the filter of an isolator, which an image can have, allow no more than the default
// profile.
func reducing(c seccomp.Calls, err error) (seccomp.Calls, error) {
	if c.Default { // and calls beside it
		c = seccomp.Calls{}
	}
	c.Reduce = true
	return c, err
}
