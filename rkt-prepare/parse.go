package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/pod"
	"github.com/rkt-toolkit/rkt/lib/prepare"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// config is one call of the program.
type config struct {
	global     *cli.Global
	options    prepare.Options
	pullPolicy string
	uuidFile   string
	quiet      bool
}

func parse(p *cli.Process) (*config, error) {
	fs, g := p.Flags()
	c := &config{global: g}
	var storeOnly, noStore, inherit bool
	var envFiles, stage1 []string
	fs.StringVar(&c.options.Name, "pod-name", "", "")
	fs.StringVar(&c.options.UUID, "uuid", "", "")
	fs.StringVar(&c.uuidFile, "uuid-file-save", "", "")
	fs.StringVar(&c.pullPolicy, "pull-policy", "new", "")
	fs.BoolVar(&storeOnly, "store-only", false, "") // rkt's older names of never and update
	fs.BoolVar(&noStore, "no-store", false, "")
	fs.BoolVar(&inherit, "inherit-env", false, "")
	fs.BoolVar(&c.quiet, "quiet", false, "")
	fs.BoolVar(&c.options.OwnUsers, "private-users", false, "")
	fs.Bool("no-overlay", false, "") // overlayfs is all there is; rkt's --private-users wanted this
	for _, name := range []string{"stage1-url", "stage1-path", "stage1-name", "stage1-hash", "stage1-from-dir"} {
		fs.Func(name, "", func(string) error {
			stage1 = append(stage1, "--"+name)
			return nil
		})
	}
	fs.BoolVar(&c.options.Strict, "strict-isolators", false, "")
	c.options.Warn = func(line string) { fmt.Fprintf(p.Stderr, "%s: %s\n", p.Name, line) }
	fs.Func("port", "", func(s string) error { return appendParsed(&c.options.Ports, s, parsePort) })
	fs.Func("set-env", "", func(s string) error { return appendParsed(&c.options.Environment, s, parseVariable) })
	fs.Func("set-env-file", "", func(s string) error { envFiles = append(envFiles, s); return nil })
	fs.Func("volume", "", c.options.Volumes.AddVolume)
	fs.Func("mount", "", c.options.Volumes.AddMount)
	if err := p.Parse(fs, g, p.Args); err != nil {
		return nil, err
	}
	for _, flag := range stage1 {
		c.options.Warn(flag + ": ignored; a pod's systemd is the host's")
	}
	switch {
	case storeOnly && noStore:
		return nil, errors.New("--store-only and --no-store exclude each other")
	case storeOnly:
		c.pullPolicy = "never"
	case noStore:
		c.pullPolicy = "update"
	}
	if !slices.Contains([]string{"never", "new", "update"}, c.pullPolicy) {
		return nil, fmt.Errorf("--pull-policy=%s: is none of never, new, update", c.pullPolicy)
	}
	if c.options.UUID != "" && !pod.ValidUUID(c.options.UUID) {
		return nil, fmt.Errorf("--uuid=%s: not a UUID", c.options.UUID)
	}
	if strings.ContainsAny(c.options.Name, "\n\x00") {
		return nil, fmt.Errorf("--pod-name=%q: more than a line", c.options.Name)
	}
	fromFiles, err := readVariables(envFiles)
	if err != nil {
		return nil, err
	}
	c.options.Environment = append(fromFiles, c.options.Environment...) // the later one counts
	if inherit {
		c.options.Inherit = inherited(os.Environ())
	}
	c.options.AllCaps, c.options.AllCalls, c.options.AllPaths = g.Insecure.Capabilities, g.Insecure.Seccomp, g.Insecure.Paths
	c.options.AnyImage = g.Insecure.OnDisk
	c.options.Apps, err = parseApps(fs.Args())
	return c, err
}

// parseApps reads IMAGE [flags] [-- args] [---] IMAGE …; the separator may be left out between images without arguments, as in
// rkt.
func parseApps(args []string) ([]prepare.App, error) {
	var apps []prepare.App
	for len(args) > 0 {
		if args[0] == "---" {
			if len(apps) == 0 || len(args) == 1 {
				return nil, errors.New("--- without an image before and after it")
			}
			args = args[1:]
			continue
		}
		if strings.HasPrefix(args[0], "-") {
			return nil, fmt.Errorf("%s: an image was expected here", args[0])
		}
		app := prepare.App{Image: args[0]}
		head, tail := args[1:], []string(nil)
		if end := slices.IndexFunc(head, func(s string) bool { return s == "--" || s == "---" }); end >= 0 {
			head, tail = head[:end], head[end:]
		}
		fs := appFlags(&app)
		if err := fs.Parse(head); err != nil {
			return nil, fmt.Errorf("image %q: %w", app.Image, cli.FlagError(err))
		}
		args = append(slices.Clone(fs.Args()), tail...)
		if len(args) > 0 && args[0] == "--" {
			end := slices.Index(args, "---")
			if end < 0 {
				end = len(args)
			}
			app.Args, args = slices.Clone(args[1:end]), args[end:]
			if app.Args == nil {
				app.Args = []string{} // no arguments on purpose: a Docker image's CMD is left out
			}
		}
		apps = append(apps, app)
	}
	if len(apps) == 0 {
		return nil, errors.New("no image given (--help shows how)")
	}
	return apps, nil
}

// appFlags are the flags that follow an image. They are never read from the environment: a stray RKT_EXEC would be every app's
// --exec.
func appFlags(app *prepare.App) *flag.FlagSet {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.StringVar(&app.Name, "name", "", "")
	fs.StringVar(&app.Signature, "signature", "", "")
	fs.StringVar(&app.Exec, "exec", "", "")
	fs.StringVar(&app.WorkingDir, "working-dir", "", "")
	fs.StringVar(&app.User, "user", "", "")
	fs.BoolVar(&app.ReadOnly, "readonly-rootfs", false, "")
	fs.StringVar(&app.Group, "group", "", "")
	fs.BoolVar(&app.NoHealth, "no-healthcheck", false, "")
	fs.Func("stdin", "", func(s string) error { return noTerminal(s, "null") })
	for name, to := range map[string]*stage1.Output{"stdout": &app.Stdout, "stderr": &app.Stderr} {
		fs.Func(name, "", func(s string) error {
			if s == string(stage1.Null) {
				*to = stage1.Null
				return nil
			}
			*to = stage1.Log
			return noTerminal(s, "log")
		})
	}
	fs.Func("supplementary-gids", "", func(s string) error {
		app.SupplementaryGIDs = []uint32{}
		for f := range strings.SplitSeq(s, ",") {
			gid, err := strconv.ParseUint(f, 10, 32)
			if err != nil {
				return fmt.Errorf("%q is not a number", f)
			}
			app.SupplementaryGIDs = append(app.SupplementaryGIDs, uint32(gid))
		}
		return nil
	})
	fs.Func("environment", "", func(s string) error { return appendParsed(&app.Environment, s, parseVariable) })
	for _, name := range []string{"caps-retain", "cap-retain"} { // rkt's new and old spelling
		fs.Func(name, "", func(s string) error { app.CapsRetain = append(app.CapsRetain, strings.Split(s, ",")...); return nil })
	}
	for _, name := range []string{"caps-remove", "cap-remove"} {
		fs.Func(name, "", func(s string) error { app.CapsRemove = append(app.CapsRemove, strings.Split(s, ",")...); return nil })
	}
	fs.Func("volume", "", app.Volumes.AddVolume)
	fs.Func("mount", "", app.Volumes.AddMount)
	fs.StringVar(&app.Limits.Memory, "memory", "", "")
	fs.StringVar(&app.Limits.CPU, "cpu", "", "")
	fs.StringVar(&app.Limits.Seccomp, "seccomp", "", "")
	number := func(name string, to **int) {
		fs.Func(name, "", func(s string) error {
			n, err := strconv.Atoi(s)
			*to = &n
			return err
		})
	}
	number("cpu-shares", &app.Limits.CPUShares)
	number("oom-score-adj", &app.Limits.OOMScore)
	number("oom-score-adjust", &app.Limits.OOMScore) // as rkt's documentation called it
	fs.Func("annotation", "", func(s string) error {
		v, err := parseVariable(s)
		if err != nil {
			return err
		}
		name, err := types.NewACIdentifier(v.Name)
		if err != nil {
			return err
		}
		app.Annotations.Set(*name, v.Value)
		return nil
	})
	fs.Func("user-annotation", "", func(s string) error { return set(&app.UserAnnotations, s) })
	fs.Func("user-label", "", func(s string) error { return set(&app.UserLabels, s) })
	return fs
}

// noTerminal takes what rkt's --stdin, --stdout and --stderr may be. "rkt attach", for which the other two were, was an experiment.
func noTerminal(s, only string) error {
	switch s {
	case only:
		return nil
	case "tty", "stream":
		return errors.New("there is no rkt attach; rkt run --interactive gives the pod's one app the terminal")
	}
	return fmt.Errorf("%q is no such stream", s)
}

func set[M ~map[string]string](m *M, s string) error {
	v, err := parseVariable(s)
	if err != nil {
		return err
	}
	if *m == nil {
		*m = M{}
	}
	(*m)[v.Name] = v.Value
	return nil
}

func appendParsed[T any](list *[]T, s string, parse func(string) (T, error)) error {
	v, err := parse(s)
	if err == nil {
		*list = append(*list, v)
	}
	return err
}

func parseVariable(s string) (stage1.Variable, error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return stage1.Variable{}, errors.New("not NAME=VALUE")
	}
	return stage1.Variable{Name: name, Value: value}, nil
}

// parsePort reads NAME:[HOSTIP:]HOSTPORT.
func parsePort(s string) (types.ExposedPort, error) {
	name, host, ok := strings.Cut(s, ":")
	if !ok {
		return types.ExposedPort{}, errors.New("not NAME:[IP:]PORT")
	}
	ac, err := types.NewACName(name)
	if err != nil {
		return types.ExposedPort{}, fmt.Errorf("port name %q: %w", name, err)
	}
	port := types.ExposedPort{Name: *ac}
	if i := strings.LastIndex(host, ":"); i >= 0 {
		if port.HostIP = net.ParseIP(strings.Trim(host[:i], "[]")); port.HostIP == nil {
			return port, fmt.Errorf("%q is not an IP address", host[:i])
		}
		host = host[i+1:]
	}
	n, err := strconv.ParseUint(host, 10, 16)
	if err != nil || n == 0 {
		return port, fmt.Errorf("%q is not a port number", host)
	}
	port.HostPort = uint(n)
	return port, nil
}

// readVariables reads NAME=VALUE lines; empty lines and those that begin with # or ; are comments, as in rkt.
func readVariables(files []string) ([]stage1.Variable, error) {
	var all []stage1.Variable
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--set-env-file: %w", err)
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' || line[0] == ';' {
				continue
			}
			v, err := parseVariable(line)
			if err != nil {
				return nil, fmt.Errorf("--set-env-file=%s: line %d: %w", file, n, err)
			}
			all = append(all, v)
		}
	}
	return all, nil
}

// ownVariables belong to the process that systemd started, not to an app that inherits its environment.
var ownVariables = []string{"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "INVOCATION_ID", "SYSTEMD_EXEC_PID",
	"JOURNAL_STREAM", "WATCHDOG_PID", "WATCHDOG_USEC", "MAINPID", "MANAGERPID", "CREDENTIALS_DIRECTORY", "_", "PWD", "OLDPWD", "SHLVL"}

func inherited(environ []string) []stage1.Variable {
	var vars []stage1.Variable
	for _, s := range environ {
		v, err := parseVariable(s)
		if err == nil && !slices.Contains(ownVariables, v.Name) && !strings.HasPrefix(v.Name, "RKT_") {
			vars = append(vars, v)
		}
	}
	return vars
}
