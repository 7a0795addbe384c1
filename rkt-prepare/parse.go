package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/cli/chain"
	"github.com/rkt-toolkit/rkt/lib/config"
	"github.com/rkt-toolkit/rkt/lib/host/sysctl"
	"github.com/rkt-toolkit/rkt/lib/pod/prepare"
	"github.com/rkt-toolkit/rkt/lib/poddir"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// call is one call of the program.
type call struct {
	global     *cli.Global
	options    prepare.Options
	pullPolicy string
	uuidFile   string
	quiet      bool
}

func parse(p *cli.Process) (*call, error) {
	fs, g := p.RootFlags()
	c := &call{global: g}
	var storeOnly, noStore, inherit bool
	var envFiles []envFile
	var flavors []string
	var manifest string
	fs.StringVar(&c.options.Claim.Name, "pod-name", "", "")
	fs.StringVar(&manifest, "pod-manifest", "", "")
	fs.StringVar(&c.options.UUID, "uuid", "", "")
	fs.StringVar(&c.uuidFile, "uuid-file-save", "", "")
	fs.StringVar(&c.pullPolicy, "pull-policy", "new", "")
	fs.BoolVar(&storeOnly, "store-only", false, "") // rkt's older names of never and update
	fs.BoolVar(&noStore, "no-store", false, "")
	fs.BoolVar(&inherit, "inherit-env", false, "")
	fs.BoolVar(&c.quiet, "quiet", false, "")
	fs.BoolVar(&c.options.OwnUsers, "private-users", false, "")
	fs.Func("pids-max", "", func(s string) error { _, err := prepare.ParseTasks(s); c.options.Tasks = s; return err })
	c.options.Sysctl = map[string]string{}
	fs.Func("sysctl", "", func(s string) error { return parseSysctl(c.options.Sysctl, s) })
	fs.BoolVar(&c.options.AnyPlatform, "any-platform", false, "")
	fs.Bool("no-overlay", false, "") // overlayfs is all there is; rkt's --private-users wanted this
	for _, name := range []string{"stage1-url", "stage1-path", "stage1-name", "stage1-hash", "stage1-from-dir"} {
		fs.Func(name, "", func(s string) error {
			flavors = append(flavors, "--"+name)
			return config.CheckStage1(s)
		})
	}
	fs.BoolVar(&c.options.Strict, "strict-isolators", false, "")
	c.options.Warn = func(line string) { p.Say("%s", line) }
	fs.Func("port", "", func(s string) error { return appendParsed(&c.options.Ports, s, parsePort) })
	fs.Func("set-env", "", func(s string) error { return appendParsed(&c.options.Environment, s, parseVariable) })
	fs.Func("shm-size", "", func(s string) error { _, err := prepare.ParseSize(s); c.options.Shm = s; return err })
	for _, name := range []string{"set-env-file", "env-file"} { // rkt's name and Docker's
		fs.Func(name, "", func(s string) error { envFiles = append(envFiles, envFile{name, s}); return nil })
	}
	fs.Func("volume", "", c.options.Volumes.AddVolume)
	fs.Func("mount", "", c.options.Volumes.AddMount)
	flags, words, err := chain.Split(fs, p.Args)
	if err == nil {
		err = p.ParseSorted(fs, g, flags, words)
	}
	if err != nil {
		return nil, err
	}
	if len(flavors) > 1 {
		return nil, fmt.Errorf("%s: only one stage1 image can be chosen", strings.Join(flavors, ", "))
	}
	if len(flavors) == 0 {
		chosen, err := config.ReadStage1(g.SystemConfig, g.LocalConfig, g.UserConfig)
		if err == nil {
			err = chosen.Check()
		}
		if err != nil {
			return nil, fmt.Errorf("stage1.d: %w", err)
		}
	}
	if c.pullPolicy, err = cli.PullPolicy(flags, c.pullPolicy, storeOnly, noStore); err != nil {
		return nil, err
	}
	if c.options.UUID != "" && !poddir.ValidUUID(c.options.UUID) {
		return nil, fmt.Errorf("--uuid=%s: not a UUID", c.options.UUID)
	}
	if c.options.Claim.Name != "" && !poddir.ValidName(c.options.Claim.Name) {
		return nil, fmt.Errorf("--pod-name=%q: not a pod's name: at most 255 letters, digits and :_.@\\-, the first a letter or a digit, and neither self nor a UUID", c.options.Claim.Name)
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
	if manifest != "" {
		fetching := func(word string) bool {
			name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
			return strings.HasPrefix(word, "-") && slices.Contains([]string{"pull-policy", "store-only", "no-store"}, name)
		}
		if c.pullPolicy != "new" && slices.ContainsFunc(flags, fetching) {
			return nil, errConflicting
		}
		return c, c.describe(manifest, fs.Args())
	}
	c.options.Apps, err = parseApps(fs.Args())
	return c, err
}

// errConflicting begins with rkt's words, for scripts.
var errConflicting = errors.New("conflicting flags set with --pod-manifest (see --help): it says what images, --port, --set-env, --set-env-file, " +
	"--inherit-env, --volume and --mount would, and takes its images from the store")

// describe takes the pod from a manifest, which has all that other flags would say.
func (c *call) describe(manifest string, images []string) error {
	o := &c.options
	images = slices.DeleteFunc(images, func(s string) bool { return s == "" }) // ${IMAGE} of a unit, without one
	if len(images)+len(o.Ports)+len(o.Environment)+len(o.Inherit)+len(o.Volumes.Volumes)+len(o.Volumes.Binds)+len(o.Volumes.Mounts) > 0 {
		return errConflicting
	}
	text, err := readBounded(manifest)
	if err == nil {
		err = o.SetManifest(text)
	}
	if err != nil {
		return fmt.Errorf("--pod-manifest=%s: %w", manifest, err)
	}
	return nil
}

// readBounded reads a file that is a manifest, or standard input for "-".
func readBounded(file string) ([]byte, error) {
	in := os.Stdin
	if file != "-" {
		var err error
		if in, err = os.Open(file); err != nil {
			return nil, err
		}
		defer in.Close()
	}
	text, err := io.ReadAll(io.LimitReader(in, poddir.MaxFile+1))
	if err == nil && len(text) > poddir.MaxFile {
		err = fmt.Errorf("larger than %d bytes", poddir.MaxFile)
	}
	return text, err
}

// parseApps reads IMAGE [flags] [-- args] [---] IMAGE …; the separator may be left out between images without arguments, as in
// rkt.
func parseApps(args []string) ([]prepare.App, error) {
	var apps []prepare.App
	separated := false
	for len(args) > 0 {
		if args[0] == "---" {
			args, separated = args[1:], true
			continue
		}
		if args[0] == "" {
			return nil, errors.New("no image given: the word in its place is empty")
		}
		app := prepare.App{Image: args[0], Bare: len(apps) > 0 && !separated}
		separated = false
		head, tail := args[1:], []string(nil)
		if end := slices.IndexFunc(head, func(s string) bool { return s == "--" || s == "---" }); end >= 0 {
			head, tail = head[:end], head[end:]
		}
		fs := appFlags(&app)
		flags, operands, err := cli.Leading(fs, head)
		if err == nil {
			err = cli.ParseFlags(fs, flags)
		}
		if err != nil {
			return nil, fmt.Errorf("image %q: %w", app.Image, err)
		}
		app.Environment = append(app.EnvironmentFile, app.Environment...)
		app.EnvironmentFile = nil
		args = append(slices.Clone(operands), tail...)
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
		return nil, errors.New("must provide at least one image or specify the pod manifest (--help shows how)")
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
	for name, set := range map[string]func(bool){"pid1": app.SetPID1, "init": app.SetInit} {
		fs.BoolFunc(name, "", func(s string) error {
			on, err := strconv.ParseBool(s)
			set(on)
			return err
		})
	}
	fs.Func("ulimit", "", app.SetLimit)
	fs.Func("tmpfs", "", app.AddTmpfs)
	fs.Func("device", "", app.AddDevice)
	fs.Func("cap-add", "", func(s string) error { return appendList(&app.CapAdd, s) })
	fs.Func("cap-drop", "", func(s string) error { return appendList(&app.CapDrop, s) })
	fs.BoolVar(&app.NoNewPrivileges, "no-new-privileges", false, "")
	fs.Func("stop-signal", "", app.SetStopSignal)
	fs.Func("stop-timeout", "", app.SetStopTimeout)
	fs.Func("env-file", "", func(s string) error { // what --environment says counts, wherever it stands
		variables, err := readFile(s)
		app.EnvironmentFile = append(app.EnvironmentFile, variables...)
		return err
	})
	fs.Func("secret", "", app.AddSecret)
	fs.StringVar(&app.Group, "group", "", "")
	fs.BoolVar(&app.NoHealth, "no-healthcheck", false, "")
	for _, name := range prepare.StreamNames {
		fs.Func(name, "", func(s string) error { return app.SetStream(name, s) })
	}
	fs.Func("supplementary-gids", "", func(s string) error {
		app.SupplementaryGIDs = []uint32{}
		for _, f := range commaList(s) {
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
		fs.Func(name, "", func(s string) error { return appendList(&app.CapsRetain, s) })
	}
	for _, name := range []string{"caps-remove", "cap-remove"} {
		fs.Func(name, "", func(s string) error { return appendList(&app.CapsRemove, s) })
	}
	fs.Func("volume", "", app.Volumes.AddVolume)
	fs.Func("mount", "", app.Volumes.AddMount)
	fs.StringVar(&app.Limits.Memory, "memory", "", "")
	fs.StringVar(&app.Limits.CPU, "cpu", "", "")
	fs.Func("seccomp", "", func(s string) error {
		if app.Limits.Seccomp != "" {
			return errors.New("is there twice; name all system calls in one")
		}
		app.Limits.Seccomp = s
		return nil
	})
	number := func(name string, to **int) {
		fs.Func(name, "", func(s string) error {
			n, err := strconv.Atoi(s)
			if err != nil {
				return errors.New("not a number")
			}
			*to = &n
			return nil
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
	for _, name := range []string{"label", "user-label"} {
		fs.Func(name, "", func(s string) error { return set(&app.UserLabels, s) })
	}
	return fs
}

// commaList is a list whose items have a "," between them; "" is an empty one.
func commaList(s string) []string {
	if s == "" {
		return []string{}
	}
	return strings.Split(s, ",")
}

// appendList adds a commaList to a flag's list, which is not nil then.
func appendList(list *[]string, s string) error {
	*list = append(append([]string{}, *list...), commaList(s)...)
	return nil
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

// variableName are names that a line of a file can mean: not the word export, nor quotes, nor a space before the "=". On a command
// line, where a shell has taken those away, any name is meant.
var variableName = regexp.MustCompile(`^[^\s\p{Z}"'\x00-\x1f\x7f\x{feff}]+$`)

// parseLine is parseVariable for a line of an environment file.
func parseLine(s string) (stage1.Variable, error) {
	v, err := parseVariable(s)
	switch {
	case err != nil:
	case !variableName.MatchString(v.Name):
		words := strings.FieldsFunc(v.Name, func(r rune) bool { return !variableName.MatchString(string(r)) })
		if len(words) == 0 {
			words = []string{"NAME"}
		}
		err = fmt.Errorf("%q is not the name of a variable; write %s=VALUE", v.Name, words[len(words)-1])
	case v.Value != "" && strings.ContainsAny(v.Value[:1], `"'`):
		err = fmt.Errorf("write the value of %s without quotes; for one that begins with a quote use --set-env", v.Name)
	case strings.HasSuffix(v.Value, `\`):
		err = fmt.Errorf(`write the value of %s on one line; for one that ends with a \ use --set-env`, v.Name)
	}
	return v, err
}

// parseSysctl reads NAME=VALUE of --sysctl into a map.
func parseSysctl(parameters map[string]string, s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return errors.New("not NAME=VALUE")
	}
	if err := sysctl.Check(name, value); err != nil {
		return err
	}
	parameters[sysctl.Canonical(name)] = value
	return nil
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

// envFile is a file of variables, and the flag that named it.
type envFile struct{ flag, file string }

// readVariables reads files of variables, one after the other.
func readVariables(files []envFile) (all []stage1.Variable, err error) {
	for _, f := range files {
		variables, err := readFile(f.file)
		if _, ok := errors.AsType[*os.PathError](err); ok {
			return nil, fmt.Errorf("--%s: %w", f.flag, err)
		}
		if err != nil {
			return nil, fmt.Errorf("--%s=%s: %w", f.flag, f.file, err)
		}
		all = append(all, variables...)
	}
	return all, nil
}

// readFile reads NAME=VALUE lines; empty lines and those that begin with # or ; are comments, as in rkt. A value is taken as it
// is, and one that begins with a quote is refused: some programs would take the quotes off.
func readFile(file string) (all []stage1.Variable, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		v, err := parseLine(line)
		if err == nil && v.Value != "" && strings.ContainsAny(v.Value[:1], `"'`) {
			err = fmt.Errorf("write the value of %s without quotes; for one that begins with a quote use --set-env", v.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all = append(all, v)
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
