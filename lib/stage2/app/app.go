// Package app makes a process of an app: it reads the app's OCI runtime configuration, gives the
// process the root, user and limits that it says, and becomes the app's program.
//
// The configuration and the seccomp filter beside it are the only files that it decides by. Nothing
// in the pod can write them.
package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/activation"
	"github.com/rkt-toolkit/rkt/lib/host/confine"
	"github.com/rkt-toolkit/rkt/lib/host/printable"
	"github.com/rkt-toolkit/rkt/lib/host/seccomp"
	"github.com/rkt-toolkit/rkt/lib/stage1"
	"golang.org/x/sys/unix"
)

// Exit statuses of an app that could not be started, as systemd numbers them (systemd.exec(5),
// "Process Exit Codes").
const (
	statusDirectory   = 200
	statusDescriptors = 202
	statusExec        = 203
	statusOOM         = 206
	statusTerminal    = 208
	statusCredentials = 217
	statusNamespace   = 226
	statusSeccomp     = 228
	statusSELinux     = 229
	statusAppArmor    = 231
	statusConfig      = 254
)

// failure is why an app could not be started, and with which status that ends.
type failure struct {
	status int
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// as gives an error its exit status.
func as(status int, err error) error {
	if err == nil {
		return nil
	}
	return &failure{status, err}
}

// Run becomes the program of an app, or one of its handlers (stage1.PreStart and others); "" is the
// app itself. It returns only if that fails, with the exit status and what to say, or for an app
// with a PID namespace of its own, when that app has exited, with its status.
func Run(name, handler string) (status int, err error) {
	runtime.LockOSThread() // namespaces, credentials and filters are a thread's, and so is the exec
	if name == "" || strings.Contains(name, "/") {
		return statusConfig, fmt.Errorf("app %q: no name of an app", name)
	}
	config, err := readConfig(filepath.Join(stage1.ConfigDir, name, stage1.ConfigFile))
	if err == nil && handler == "" && stage1.OwnPIDs(config) && os.Getpid() != 1 {
		if status, err = supervise(config, name); err == nil {
			return status, nil
		}
	}
	if err == nil {
		err = start(config, name, handler) // returns on failure only
	}
	status = statusConfig
	if f, ok := errors.AsType[*failure](err); ok {
		status = f.status
	}
	return status, fmt.Errorf("app %q: %w", name, err)
}

// start becomes the program. Of the app itself it leaves word whether that succeeds.
func start(config *specs.Spec, name, handler string) error {
	if handler != "" {
		return become(config, name, handler, -1)
	}
	marker, err := mark(name)
	if err != nil {
		return err
	}
	err = become(config, name, "", marker)
	if _, failed := unix.Write(marker, []byte("failed\n")); failed != nil {
		err = errors.Join(err, failed)
	}
	return err
}

// become becomes the program. If it fails to at the last moment, it writes why to the descriptor
// marker, too.
func become(config *specs.Spec, name, handler string, marker int) error {
	filters, err := readFilters(config, filepath.Join(stage1.ConfigDir, name))
	if err != nil {
		return as(statusSeccomp, err)
	}
	argv, err := command(config, handler)
	if err != nil {
		return err
	}
	asRoot(config, handler)
	own := -1
	if handler == "" && config.Annotations[stage1.InitAnnotation] == "true" {
		if own, err = unix.Open(stage1.Stage2, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
	}
	process, err := processOf(config, filters)
	if err != nil {
		return err
	}
	if err := prepareProcess(config); err != nil { // needs the pod's /proc
		return err
	}
	if err := enterRoot(config); err != nil {
		return as(statusNamespace, err)
	}
	if err := unix.Chdir(config.Process.Cwd); err != nil {
		return as(statusDirectory, fmt.Errorf("working directory %s: %w", config.Process.Cwd, err))
	}
	env := environment(config, os.Environ())
	file, format, err := findProgram(argv[0], env)
	if err != nil {
		return as(statusExec, err)
	}
	if own >= 0 {
		argv = append([]string{"rkt-stage2", "init", file}, argv...)
		file = fmt.Sprintf("/proc/self/fd/%d", own)
	}
	program, err := confine.NewProgram(file, bytesOf(argv), bytesOf(env), filters, failureOf(name, file, format))
	if err != nil {
		return as(statusExec, err)
	}
	if err := keepDescriptors(); err != nil {
		return as(statusDescriptors, err)
	}
	if err := process.Apply(); err != nil {
		return as(statusCredentials, err)
	}
	program.Report = marker
	program.Become()
	return nil
}

// asRoot makes root the user of a handler, as in rkt 1.30, with the app's bounding set, unless the
// app says that its user is to run it.
func asRoot(config *specs.Spec, handler string) {
	asApp := config.Annotations[stage1.HandlersAnnotation] == stage1.HandlersAsApp
	if handler != stage1.PreStart && handler != stage1.PostStop || asApp {
		return
	}
	p := config.Process
	p.User.UID, p.User.GID, p.User.AdditionalGids = 0, 0, nil
	p.Capabilities.Effective, p.Capabilities.Permitted = p.Capabilities.Bounding, p.Capabilities.Bounding
}

// readConfig reads the configuration, and refuses one that this program would not follow to the
// letter.
func readConfig(file string) (*specs.Spec, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	config, err := stage1.ParseConfig(text)
	if err == nil {
		err = check(config)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return config, nil
}

// readFilters reads the seccomp filters: the pod's, in a flavor whose PID 1 does not have it, and
// the app's own, which was assembled from the configuration when the pod was prepared.
func readFilters(config *specs.Spec, dir string) (filters [][]unix.SockFilter, err error) {
	names := []string{stage1.PodFilterFile}
	if config.Linux.Seccomp != nil {
		names = append(names, stage1.FilterFile)
	}
	for _, name := range names {
		file := filepath.Join(dir, name)
		text, err := os.ReadFile(file)
		if name == stage1.PodFilterFile && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		filter, err := seccomp.Unmarshal(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		filters = append(filters, filter)
	}
	return filters, nil
}

// command is the program to become, with its arguments.
func command(config *specs.Spec, handler string) (argv []string, err error) {
	text, ok := config.Annotations[stage1.BytesAnnotation]
	if handler == "" && ok {
		var list [][]byte
		if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != len(config.Process.Args) {
			return nil, fmt.Errorf("annotation %s: not the arguments (%w)", stage1.BytesAnnotation, err)
		}
		for _, b := range list {
			argv = append(argv, string(b))
		}
		return argv, nil
	}
	if handler == "" {
		return config.Process.Args, nil
	}
	text, ok = config.Annotations[stage1.HandlerAnnotation+handler]
	if !ok {
		return nil, fmt.Errorf("%s: the app has no such handler", handler)
	}
	if err := json.Unmarshal([]byte(text), &argv); err != nil {
		return nil, fmt.Errorf("%s: %w", handler, err)
	}
	if len(argv) == 0 {
		return nil, fmt.Errorf("%s: names no program", handler)
	}
	return argv, nil
}

// fromInit are the variables that the pod's systemd says for each start, where the app's
// configuration has none.
var fromInit = []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}

// environment is the app's, and nothing else but what its init says to it.
func environment(config *specs.Spec, own []string) []string {
	env := slices.Clone(config.Process.Env)
	has := func(name string) bool {
		return slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, name+"=") })
	}
	names := fromInit
	if config.Process.Terminal {
		names = append(slices.Clone(names), "TERM")
	}
	for _, v := range own {
		name, _, _ := strings.Cut(v, "=")
		if slices.Contains(names, name) && !has(name) {
			env = append(env, v)
		}
	}
	return env
}

// keepDescriptors leaves the program standard input, output and error, and the sockets that it is
// activated by.
func keepDescriptors() error {
	passed := len(activation.Names(os.Getenv, os.Getpid()))
	return unix.CloseRange(uint(activation.First+passed), math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
}

// failureOf is what the process says when it can't become the program; format is what its file is.
func failureOf(name, file, format string) confine.Failure {
	line := func(what string) func(unix.Errno) string {
		return func(errno unix.Errno) string {
			if errno == unix.ENOEXEC && format != "" {
				return Line(fmt.Errorf("app %q: %s: %s: %w", name, what, format, errno))
			}
			return Line(fmt.Errorf("app %q: %s: %w", name, what, errno))
		}
	}
	return confine.Failure{Filter: line("seccomp filter"), FilterStatus: statusSeccomp, Exec: line(file),
		ExecStatus: statusExec}
}

// Line is an error as it is said, without a newline.
func Line(err error) string { return printable.Line("rkt: " + err.Error()) }

func bytesOf(list []string) (b [][]byte) {
	for _, s := range list {
		b = append(b, []byte(s))
	}
	return b
}
