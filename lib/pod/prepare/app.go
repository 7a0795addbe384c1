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
	"unicode/utf8"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/host/overlay"
	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/stage1"
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

// SetPID1 gives the app a PID namespace of its own, in which it is PID 1, or does not, whatever its
// image says.
func (a *App) SetPID1(on bool) { a.Annotations.Set(image.AnnotationPID1, strconv.FormatBool(on)) }

// SetInit gives the app a PID namespace of its own, in which rkt's small init is PID 1, or does
// not, whatever its image says.
func (a *App) SetInit(on bool) { a.Annotations.Set(image.AnnotationInit, strconv.FormatBool(on)) }

// StreamNames are the flags, and the last part of the annotations, that say what an app's standard
// input, output and error are.
var StreamNames = []string{"stdin", "stdout", "stderr"}

// SetStream has the app's stream of that name be what value says: null, tty, stream, or for output
// log.
func (a *App) SetStream(name, value string) error {
	if err := checkStream(name, value); err != nil {
		return err
	}
	a.Annotations.Set(types.ACIdentifier(stage1.StreamAnnotation+name), value)
	return nil
}

func checkStream(name, value string) error {
	values := []stage1.Stream{stage1.Null, stage1.TTY, stage1.Attached}
	text := "null, tty, stream"
	if name != "stdin" {
		values, text = append(values, stage1.Log), "log, "+text
	}
	if !slices.Contains(values, stage1.Stream(value)) {
		return fmt.Errorf("%q: is not one of %s", value, text)
	}
	return nil
}

// streams settles the app's standard input, output and error by rkt's annotations of an app of a
// pod.
func streams(out *stage1.App, annotations types.Annotations) error {
	for i, to := range []*stage1.Stream{&out.Stdin, &out.Stdout, &out.Stderr} {
		name := StreamNames[i]
		value, ok := annotations.Get(stage1.StreamAnnotation + name)
		if !ok {
			continue
		}
		if err := checkStream(name, value); err != nil {
			return fmt.Errorf("annotation %s%s: %w", stage1.StreamAnnotation, name, err)
		}
		*to = stage1.Stream(value)
	}
	return nil
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

// command is what is to be executed, as rkt put it together: --exec replaces the image's whole
// command; arguments come after it, or in the place of a Docker image's CMD.
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

// findProgram finds argv[0] as execvp(3) would inside the app's root, so that a program that is not
// there is an error now, and not of a pod that has ended before one looks.
func findProgram(root *os.File, argv []string, dir string, env []stage1.Variable) ([]string, error) {
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

// environment is, from lowest to highest: the caller's, what appc's executor promises, the image's,
// --set-env, --environment. odd are further variables of the image.
func environment(name string, id identity, o Options, a App, img types.Environment, odd []string) ([]stage1.Variable,
	error) {
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
	for _, s := range odd {
		name, value, _ := strings.Cut(s, "=")
		set(stage1.Variable{Name: name, Value: value})
	}
	set(o.Environment...)
	set(a.Environment...)
	for _, v := range env {
		switch {
		case v.Name == "":
			return nil, fmt.Errorf("environment variable %q: without a name", "="+v.Value)
		case !utf8.ValidString(v.Name) || strings.ContainsRune(v.Name, 0):
			return nil, fmt.Errorf("environment variable %q: its name is not UTF-8, or has a NUL byte", v.Name)
		case strings.ContainsRune(v.Value, 0):
			return nil, fmt.Errorf("environment variable %s: has a NUL byte, which no process can be given", v.Name)
		case !utf8.ValidString(v.Value):
			return nil,
				fmt.Errorf("environment variable %s: its value is not UTF-8, which the pod's manifest can't hold",
					v.Name)
		}
	}
	return env, nil
}

// assignments is an app's environment as NAME=VALUE strings.
func assignments(app stage1.App) (list []string) {
	for _, v := range app.Environment {
		list = append(list, v.Name+"="+v.Value)
	}
	return list
}

// What execve(2) takes: a string of 32 pages with its NUL byte; and all of them together a quarter
// of the stack's limit, which is 8 MB unless the administrator of the host says otherwise. Some is
// left for what is added when the app starts.
const (
	maxString  = 32*4096 - 1
	maxStrings = 2<<20 - 16<<10
)

// checkSize refuses arguments and variables that the kernel would refuse when the app starts.
func checkSize(app stage1.App) error {
	all := 0
	for i, s := range app.Exec {
		if len(s) > maxString {
			return fmt.Errorf("argument %d: %d bytes, and the kernel takes at most %d", i, len(s), maxString)
		}
		all += len(s) + 1 + 8
	}
	for _, v := range app.Environment {
		if n := len(v.Name) + 1 + len(v.Value); n > maxString {
			return fmt.Errorf("environment variable %q: %d bytes with its name, and the kernel takes at most %d",
				v.Name, n, maxString)
		}
		all += len(v.Name) + len(v.Value) + 2 + 8
	}
	if all > maxStrings {
		return fmt.Errorf("arguments and environment: %d bytes together, and the kernel takes at most %d",
			all, maxStrings)
	}
	return nil
}

// capabilities is the app's capability bounding set: what the command line says, else the
// isolators, else the default. Several isolators each reduce what the ones before them leave.
func capabilities(a App, isolators types.Isolators, all bool) ([]string, error) {
	set, named := stage1.DefaultCapabilities, []string(nil)
	retained := false
	for _, i := range isolators {
		v, ok := i.Value().(*types.LinuxCapabilitiesRetainSet)
		if !ok {
			continue
		}
		retain := capabilityNames(v.Set())
		if retained { // both
			retain = without(set, without(set, retain))
		}
		set, retained = retain, true
	}
	for _, i := range isolators {
		if v, ok := i.Value().(*types.LinuxCapabilitiesRevokeSet); ok {
			named = append(named, capabilityNames(v.Set())...)
			set = without(set, named)
		}
	}
	switch {
	case a.CapsRetain != nil && a.CapsRemove != nil:
		return nil, errors.New("--caps-retain and --caps-remove exclude each other")
	case a.CapsRetain != nil:
		set, named = spelt(a.CapsRetain), nil
	case a.CapsRemove != nil:
		named = spelt(a.CapsRemove)
		set = without(stage1.DefaultCapabilities, named)
	}
	set, err := a.addAndDrop(set)
	if err != nil {
		return nil, err
	}
	if all {
		set = stage1.AllCapabilities
	}
	return set, checkCapabilities(append(slices.Clone(set), named...)) // a wrong name would remove nothing
}

// spelt is a flag's list of capabilities in the spelling of capabilities(7): net_admin is
// CAP_NET_ADMIN, and all is all of them.
func spelt(names []string) []string {
	all := []string{}
	for _, name := range names {
		name = strings.ToUpper(name)
		switch {
		case name == "ALL":
			all = append(all, stage1.AllCapabilities...)
		case strings.HasPrefix(name, "CAP_"):
			all = append(all, name)
		default:
			all = append(all, "CAP_"+name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// checkCapabilities returns an error if a name is not one of capabilities(7).
func checkCapabilities(names []string) error {
	for _, c := range names {
		if !slices.Contains(stage1.AllCapabilities, c) {
			return fmt.Errorf("unknown capability %q (capabilities(7) lists them; all is all of them)", c)
		}
	}
	return nil
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
	if unix.SignalNum(name) != 0 ||
		regexp.MustCompile(`^SIGRTM(IN(\+([1-9]|[12][0-9]|30))?|AX(-([1-9]|[12][0-9]|30))?)$`).MatchString(name) {
		return name, nil
	}
	if regexp.MustCompile(`^SIG([1-9]|[1-5][0-9]|6[0-4])$`).MatchString(name) {
		return name[len("SIG"):], nil
	}
	return "", fmt.Errorf("stop signal %q: unknown signal", s)
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
