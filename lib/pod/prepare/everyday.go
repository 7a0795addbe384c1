package prepare

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/apparmor"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/isolator"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// AddTmpfs reads DIR[:OPTIONS]: an app's own empty directory in memory.
func (a *App) AddTmpfs(s string) error {
	dir, options, both := strings.Cut(s, ":")
	dir, err := target(dir)
	if err == nil && stage1.InSys(dir) {
		err = fmt.Errorf("%q: nothing can be made below /sys", dir)
	}
	if err != nil {
		return err
	}
	if both {
		dir += ":" + options
	}
	return a.appendTo(stage1.TmpfsAnnotation, dir, func(text string) error {
		_, err := stage1.ParseTmpfsList(text)
		return err
	})
}

// appendTo adds an item to an annotation that is a JSON array.
func (a *App) appendTo(name types.ACIdentifier, item string, check func(string) error) error {
	var list []string
	if text, ok := a.Annotations.Get(name.String()); ok {
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return fmt.Errorf("annotation %s: %w", name, err)
		}
	}
	text, err := json.Marshal(append(list, item))
	if err == nil {
		err = check(string(text))
	}
	a.Annotations.Set(name, string(text))
	return err
}

// checkTmpfs refuses a volume where the app has a tmpfs.
func checkTmpfs(app stage1.App, mounts []schema.Mount) error {
	for _, t := range app.Tmpfs {
		if slices.ContainsFunc(mounts, func(m schema.Mount) bool { return m.Path == t.Destination }) {
			return fmt.Errorf("--tmpfs=%s: a volume is mounted there, too", t.Destination)
		}
	}
	return nil
}

// withoutTmpfs are the mount points of an image, less those in whose place the app has a tmpfs.
func withoutTmpfs(points []types.MountPoint, annotations types.Annotations) ([]types.MountPoint, error) {
	text, _ := annotations.Get(stage1.TmpfsAnnotation)
	all, err := stage1.ParseTmpfsList(text)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(points), func(p types.MountPoint) bool {
		at, err := target(p.Path)
		return err == nil && slices.ContainsFunc(all, func(t specs.Mount) bool { return t.Destination == at })
	}), nil
}

var access = regexp.MustCompile(`^[rwm]{1,3}$`)

// AddDevice reads Docker's SOURCE[:TARGET][:rwm]: a device of the host that the app has, and how
// the pod may use it.
func (a *App) AddDevice(s string) error {
	parts := strings.Split(s, ":")
	from, to, how := parts[0], parts[0], "rwm"
	switch {
	case len(parts) == 2 && access.MatchString(parts[1]):
		how = parts[1]
	case len(parts) > 1:
		to = parts[1]
	}
	if len(parts) == 3 {
		how = parts[2]
	}
	if len(parts) > 3 || !access.MatchString(how) {
		return errors.New("not /dev/NAME[:/dev/NAME][:rwm]")
	}
	from, err := source(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeDevice == 0 {
		return fmt.Errorf("%s: not a device; --volume=%s:%s gives an app a file or directory", from, from, to)
	}
	if !strings.HasPrefix(to, "/") {
		return fmt.Errorf("%q is not an absolute path", to)
	}
	if to, err = target(to); err != nil {
		return err
	}
	a.Volumes.Binds = append(a.Volumes.Binds, Bind{Source: from, Target: to})
	return a.appendTo(stage1.DevicesAnnotation, from+" "+how, func(string) error { return nil })
}

// isolators are those of the image or manifest, and those of --no-new-privileges and --apparmor,
// which take their place.
func (a *App) isolators(of types.Isolators) (types.Isolators, error) {
	own := map[types.ACIdentifier]any{}
	if a.NoNewPrivileges {
		own[types.LinuxNoNewPrivilegesName] = true
	}
	if a.AppArmor != "" {
		if a.AppArmor != apparmor.Unconfined && !apparmor.Enabled() {
			return nil, fmt.Errorf("--apparmor=%s: the host has no AppArmor", a.AppArmor)
		}
		own[isolator.AppArmorName] = map[string]string{"profile": a.AppArmor}
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		text, err := json.Marshal(map[string]any{"name": name, "value": own[name]})
		if err != nil {
			return nil, err
		}
		var i types.Isolator
		if err := json.Unmarshal(text, &i); err != nil {
			return nil, err
		}
		of = append(slices.DeleteFunc(slices.Clone(of), func(i types.Isolator) bool { return i.Name == name }), i)
	}
	return of, nil
}

// SetAppArmor has the app run under an AppArmor profile that is loaded on the host, or under none
// ("unconfined").
func (a *App) SetAppArmor(profile string) error {
	a.AppArmor = profile
	return isolator.AppArmor{Profile: profile}.AssertValid()
}

// addAndDrop changes a set of capabilities by --cap-add and --cap-drop, as Docker's.
func (a *App) addAndDrop(set []string) ([]string, error) {
	add, drop := spelt(a.CapAdd), spelt(a.CapDrop)
	isAll := func(names []string) bool {
		return slices.ContainsFunc(names, func(s string) bool { return strings.EqualFold(s, "all") })
	}
	if len(add)+len(drop) == 0 {
		return set, nil
	}
	if a.CapsRetain != nil || a.CapsRemove != nil {
		return nil, errors.New("--cap-add and --cap-drop change the default, --caps-retain and --caps-remove take " +
			"its place; use one of the two ways")
	}
	if err := checkCapabilities(slices.Concat(add, drop)); err != nil {
		return nil, err
	}
	if isAll(a.CapDrop) { // and what is added stays
		return add, nil
	}
	if !isAll(a.CapAdd) {
		for _, c := range add {
			if slices.Contains(drop, c) {
				return nil, fmt.Errorf("--cap-add and --cap-drop both name %s", c)
			}
		}
	}
	set = slices.Concat(set, without(add, set))
	return without(set, drop), nil
}

// SetStopSignal has the app be asked to stop by that signal.
func (a *App) SetStopSignal(s string) error {
	name, err := signalName(s)
	if err != nil {
		return fmt.Errorf("there is no such signal; write a name such as INT or SIGRTMIN+3, or a number")
	}
	a.Annotations.Set(image.AnnotationStopSignal, name)
	return nil
}

// stopTimeoutAnnotation is the name of an annotation of an app: seconds.
const stopTimeoutAnnotation = "coreos.com/rkt/stage2/stop-timeout"

// SetStopTimeout has the app be killed so long after it is asked to stop.
func (a *App) SetStopTimeout(s string) error {
	d, err := stopTimeout(s)
	a.Annotations.Set(stopTimeoutAnnotation, strconv.FormatInt(int64(d/time.Second), 10))
	return err
}

// stopTimeout reads a time in whole seconds, with or without a unit.
func stopTimeout(s string) (time.Duration, error) {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		s = strconv.FormatUint(n, 10) + "s"
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second || d%time.Second != 0 {
		return 0, errors.New("not a time of at least one second, such as 30 or 1m30s")
	}
	return d, nil
}

// stopping settles how the app is asked to stop, by its annotations.
func stopping(out *stage1.App, annotations types.Annotations) (err error) {
	if s, ok := annotations.Get(image.AnnotationStopSignal); ok {
		if out.StopSignal, err = signalName(s); err != nil {
			return err
		}
	}
	if s, ok := annotations.Get(stopTimeoutAnnotation); ok {
		if out.StopTimeout, err = stopTimeout(s); err != nil {
			return fmt.Errorf("annotation %s: %q: %w", stopTimeoutAnnotation, s, err)
		}
	}
	return nil
}

var size = regexp.MustCompile(`^([1-9][0-9]{0,11})([kmg]?)(i?b?)$`)

// ParseSize reads a size as Docker has it: 64m is 64 MiB. The result is bytes.
func ParseSize(s string) (uint64, error) {
	m := size.FindStringSubmatch(strings.ToLower(s))
	if m == nil || m[2] == "" && strings.HasPrefix(m[3], "i") {
		return 0, errors.New("not a size such as 64m or 1g, in units of 1024")
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	return n << map[string]int{"": 0, "k": 10, "m": 20, "g": 30}[m[2]], err
}
