package prepare

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/overlay"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/store"
	"golang.org/x/sys/unix"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// appName is what the command line says, else the last part of the image's name.
func appName(a App, img *store.Image) (types.ACName, error) {
	if a.Name != "" {
		name, err := types.NewACName(a.Name)
		if err != nil {
			return "", fmt.Errorf("--name=%s: %w", a.Name, err)
		}
		return *name, nil
	}
	s, err := types.SanitizeACName(path.Base(img.Manifest.Name.String()))
	if err != nil {
		return "", fmt.Errorf("image %q: its name makes no app name; give one with --name", a.Image)
	}
	return types.ACName(s), nil
}

// resolve settles an app: the image's manifest, changed by the command line, with every name looked up in the image itself.
func resolve(root *os.File, name string, a App, img *schema.ImageManifest, o Options) (stage1.App, *types.App, error) {
	effective := types.App{User: "0", Group: "0"}
	if img.App != nil {
		effective = *img.App
	}
	out := stage1.App{Name: name}
	exec, err := command(a, effective.Exec, img)
	if err != nil {
		return out, nil, err
	}
	if a.WorkingDir != "" {
		effective.WorkingDirectory = a.WorkingDir
	}
	user, group := image.UserGroup(img)
	if a.User != "" {
		user = a.User
		if isDocker(img) && !namesGroup(img) {
			group = "" // the user's own, as with Docker
		}
	}
	if a.Group != "" {
		group = a.Group
	}
	id, err := lookUp(root, user, group)
	if err != nil {
		return out, nil, err
	}
	effective.User, effective.Group = strconv.FormatUint(uint64(id.uid), 10), strconv.FormatUint(uint64(id.gid), 10)
	out.UID, out.GID, out.SupplementaryGIDs = id.uid, id.gid, a.SupplementaryGIDs
	if a.SupplementaryGIDs == nil {
		for _, gid := range effective.SupplementaryGIDs {
			id, err := parseID(strconv.Itoa(gid))
			if err != nil {
				return out, nil, fmt.Errorf("supplementary group %d: %w", gid, err)
			}
			out.SupplementaryGIDs = append(out.SupplementaryGIDs, id)
		}
	}
	effective.SupplementaryGIDs = nil
	for _, gid := range out.SupplementaryGIDs {
		effective.SupplementaryGIDs = append(effective.SupplementaryGIDs, int(gid))
	}
	if out.Capabilities, err = capabilities(a, effective.Isolators, o.AllCaps); err != nil {
		return out, nil, err
	}
	if err := isolate(&out, a, effective.Isolators, o); err != nil {
		return out, nil, err
	}

	odd, err := list(img, image.AnnotationEnvironment) // what appc's manifest has no place for
	if err != nil {
		return out, nil, err
	}
	if len(odd) > 0 {
		return out, nil, fmt.Errorf("the image's environment variable %q: systemd passes on only names of letters, digits and _", odd[0])
	}
	out.AllPaths = o.AllPaths
	out.Environment = environment(name, id, o, a, effective.Environment)
	out.WorkingDir = effective.WorkingDirectory
	if out.WorkingDir == "" {
		out.WorkingDir = "/"
	}
	if err := overlay.MkdirAll(root, out.WorkingDir, 0o755); err != nil {
		return out, nil, fmt.Errorf("working directory: %w", err)
	}
	for _, dir := range []string{"/proc", "/sys", "/dev", "/run/systemd/incoming"} { // the pod's systemd makes none in a read-only root
		if err := overlay.MkdirAll(root, dir, 0o755); err != nil {
			return out, nil, err
		}
	}
	if _, err := overlay.Stat(root, "/tmp"); errors.Is(err, os.ErrNotExist) { // appc's executor promises one
		if err := overlay.MkdirAll(root, "/tmp", 0o1777); err != nil {
			return out, nil, err
		}
	}
	if out.Exec, err = program(root, exec, out.WorkingDir, out.Environment); err != nil {
		if !slices.ContainsFunc(a.mounts, func(m schema.Mount) bool { return exec[0] == m.Path || strings.HasPrefix(exec[0], m.Path+"/") }) {
			return out, nil, err
		}
		out.Exec = exec // in a volume, which is looked into when the pod starts
	}
	for _, handler := range effective.EventHandlers {
		if len(handler.Exec) == 0 {
			return out, nil, fmt.Errorf("event handler %s: names no program", handler.Name)
		}
		argv, err := program(root, handler.Exec, out.WorkingDir, out.Environment)
		if err != nil {
			return out, nil, fmt.Errorf("event handler %s: %w", handler.Name, err)
		}
		switch handler.Name {
		case "pre-start":
			out.PreStart = argv
		case "post-stop":
			out.PostStop = argv
		default:
			return out, nil, fmt.Errorf("event handler %q: neither pre-start nor post-stop", handler.Name)
		}
	}
	if signal, ok := img.Annotations.Get(image.AnnotationStopSignal); ok {
		if out.StopSignal, err = signalName(signal); err != nil {
			return out, nil, err
		}
	}
	if v, ok := img.Annotations.Get(image.AnnotationNotify); ok {
		out.Notify = v == "true"
	}
	if v, ok := a.Annotations.Get(image.AnnotationNotify); ok {
		out.Notify = v == "true"
	}

	if out.Health, err = health(root, a, img, out, o); err != nil {
		return out, nil, err
	}
	out.Stdout, out.Stderr = a.Stdout, a.Stderr

	effective.Exec = out.Exec
	effective.Environment = nil
	for _, v := range out.Environment {
		effective.Environment.Set(v.Name, v.Value)
	}
	effective.WorkingDirectory = out.WorkingDir
	effective.UserAnnotations, effective.UserLabels = merge(effective.UserAnnotations, a.UserAnnotations), merge(effective.UserLabels, a.UserLabels)
	return out, &effective, nil
}

// list reads an annotation that holds a JSON array; none is an empty one.
func list(img *schema.ImageManifest, name types.ACIdentifier) (values []string, err error) {
	if text, ok := img.Annotations.Get(name.String()); ok {
		if err := json.Unmarshal([]byte(text), &values); err != nil {
			return nil, fmt.Errorf("image annotation %s: %w", name, err)
		}
	}
	return values, nil
}

func isDocker(img *schema.ImageManifest) bool {
	_, entrypoint := img.Annotations.Get(image.AnnotationEntrypoint)
	_, cmd := img.Annotations.Get(image.AnnotationCmd)
	return entrypoint || cmd
}

func namesGroup(img *schema.ImageManifest) bool {
	user, _ := img.Annotations.Get(image.AnnotationUser)
	return strings.Contains(user, ":")
}

// command is what is to be executed, as rkt put it together: --exec replaces the image's whole command; arguments come after
// it, or in the place of a Docker image's CMD.
func command(a App, exec types.Exec, img *schema.ImageManifest) ([]string, error) {
	argv := slices.Clone([]string(exec))
	if a.Args != nil {
		cmd, err := list(img, image.AnnotationCmd)
		if err != nil {
			return nil, err
		}
		argv = argv[:max(0, len(argv)-len(cmd))]
	}
	if a.Exec != "" {
		argv = []string{a.Exec}
	}
	argv = append(argv, a.Args...)
	if len(argv) == 0 {
		return nil, errors.New("the image names no program; give one with --exec")
	}
	return argv, nil
}

// program finds argv[0] as execvp(3) would inside the app's root, so that a program that is not there is an error now, and not
// of a pod that has ended before one looks.
func program(root *os.File, argv []string, dir string, env []stage1.Variable) ([]string, error) {
	var candidates []string
	switch file := argv[0]; {
	case path.IsAbs(file):
		candidates = []string{file}
	case strings.Contains(file, "/"):
		candidates = []string{path.Join(dir, file)}
	default:
		for _, v := range env {
			if v.Name != "PATH" {
				continue
			}
			for d := range strings.SplitSeq(v.Value, ":") {
				candidates = append(candidates, path.Join("/", d, file))
			}
		}
	}
	why := error(unix.ENOENT)
	for _, c := range candidates {
		st, err := overlay.Stat(root, c)
		switch {
		case err != nil:
			continue
		case st.Mode&unix.S_IFMT != unix.S_IFREG:
			why = errors.New("not a file")
		case st.Mode&0o111 == 0:
			why = unix.EACCES
		default:
			return append([]string{c}, argv[1:]...), nil
		}
	}
	return nil, fmt.Errorf("program %q: %w in the image", argv[0], why)
}

var inheritable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// environment is, from lowest to highest: the caller's, what appc's executor promises, the image's, --set-env, --environment.
func environment(name string, id identity, o Options, a App, img types.Environment) []stage1.Variable {
	var env []stage1.Variable
	set := func(vars ...stage1.Variable) {
		for _, v := range vars {
			i := slices.IndexFunc(env, func(e stage1.Variable) bool { return e.Name == v.Name })
			if i < 0 {
				env = append(env, v)
			} else {
				env[i] = v
			}
		}
	}
	set(stage1.Variable{Name: "PATH", Value: defaultPath})
	for _, v := range o.Inherit {
		if inheritable.MatchString(v.Name) { // a shell's exported functions are nothing that an app could be given
			set(v)
		}
	}
	set(stage1.Variable{Name: "HOME", Value: id.home}, stage1.Variable{Name: "USER", Value: id.name},
		stage1.Variable{Name: "LOGNAME", Value: id.name}, stage1.Variable{Name: "SHELL", Value: id.shell},
		stage1.Variable{Name: "AC_APP_NAME", Value: name}, stage1.Variable{Name: "container", Value: "rkt"})
	for _, v := range img {
		set(stage1.Variable{Name: v.Name, Value: v.Value})
	}
	set(o.Environment...)
	set(a.Environment...)
	return env
}

// capabilities is the app's bounding set: what the command line says, else the image's isolators, else the default.
func capabilities(a App, isolators types.Isolators, all bool) ([]string, error) {
	set := stage1.DefaultCapabilities
	for _, i := range isolators {
		switch v := i.Value().(type) {
		case *types.LinuxCapabilitiesRetainSet:
			set = capabilityNames(v.Set())
		case *types.LinuxCapabilitiesRevokeSet:
			set = without(stage1.DefaultCapabilities, capabilityNames(v.Set()))
		}
	}
	switch {
	case a.CapsRetain != nil && a.CapsRemove != nil:
		return nil, errors.New("--caps-retain and --caps-remove exclude each other")
	case a.CapsRetain != nil:
		set = a.CapsRetain
	case a.CapsRemove != nil:
		set = without(stage1.DefaultCapabilities, a.CapsRemove)
	}
	if all {
		set = stage1.AllCapabilities
	}
	for _, c := range set {
		if !slices.Contains(stage1.AllCapabilities, c) {
			return nil, fmt.Errorf("capability %q: there is none of this name", c)
		}
	}
	return set, nil
}

func capabilityNames(set []types.LinuxCapability) []string {
	names := []string{}
	for _, c := range set {
		names = append(names, string(c))
	}
	return names
}

func without(set, remove []string) []string {
	kept := []string{}
	for _, c := range set {
		if !slices.Contains(remove, c) {
			kept = append(kept, c)
		}
	}
	return kept
}

// signalName takes what Docker's STOPSIGNAL may be: a number, or a name with or without SIG.
func signalName(s string) (string, error) {
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if unix.SignalNum(name) != 0 || regexp.MustCompile(`^SIGRTM(IN(\+([1-9]|[12][0-9]|30))?|AX(-([1-9]|[12][0-9]|30))?)$`).MatchString(name) {
		return name, nil
	}
	if regexp.MustCompile(`^SIG([1-9]|[1-5][0-9]|6[0-4])$`).MatchString(name) {
		return name[len("SIG"):], nil
	}
	return "", fmt.Errorf("stop signal %q: there is none of this name", s)
}

func merge[M ~map[string]string](low, high M) M {
	if len(low)+len(high) == 0 {
		return nil
	}
	merged := M{}
	for _, m := range []M{low, high} {
		for k, v := range m {
			merged[k] = v
		}
	}
	return merged
}
