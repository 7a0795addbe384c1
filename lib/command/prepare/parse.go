package prepare

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/appc/spec/schema/types"
	"github.com/rkt-toolkit/rkt/lib/cli"
	"github.com/rkt-toolkit/rkt/lib/cli/chain"
	"github.com/rkt-toolkit/rkt/lib/host/bounded"
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

// given are flags that complete checks together with others.
type given struct {
	storeOnly, noStore, inherit bool
	envFiles                    []envFile
	flavors                     []choice
	manifest                    string
}

// register registers the flags, and returns what makes a call of them.
func register(fs *cli.Flags) func(*cli.Process) (*call, error) {
	fs.Root = true
	c := &call{global: fs.Global}
	f := &given{}
	o := &c.options
	fs.StringVar(&o.Claim.Name, "pod-name", "", "NAME: a name for the pod, unique among pods that have not exited (in "+
		"a service: the unit's name)")
	fs.StringVar(&o.UUID, "uuid", "", "UUID: the pod's UUID (default: random; in a service that of its start, which "+
		"\"self\" stands for in its other lines)")
	fs.StringVar(&c.uuidFile, "uuid-file-save", "", "FILE: write the UUID to FILE as well")
	fs.StringVar(&c.pullPolicy, "pull-policy", "new", "POLICY: never: only images in the store; new: fetch what is "+
		"not there (default); update: ask the source each time")
	sharedFlags(fs, o, f)
	podFlags(fs, o)
	fs.StringVar(&f.manifest, "pod-manifest", "", "FILE: make the pod that appc's manifest in FILE describes, in "+
		"place of images and their flags; its images must be in the store")
	fs.BoolVar(&o.AnyPlatform, "any-platform", false,
		"accept ACIs that do not say for which operating system and architecture they are")
	fs.BoolVar(&o.Strict, "strict-isolators", false, "refuse to prepare a pod if a limit of an app can't be enforced")
	fs.BoolVar(&c.quiet, "quiet", false, "print nothing but the UUID")
	olderFlags(fs, f)
	fs.Show("app", "Flags of an app, after its image", appFlags(&prepare.App{}))
	fs.Sort = func(_ *cli.Process, args []string) (flags, operands []string, err error) {
		return chain.Split(fs.FlagSet, args)
	}
	return func(p *cli.Process) (*call, error) { return c.complete(p, fs, f) }
}

// sharedFlags are those of the ports and of the environment of every app.
func sharedFlags(fs *cli.Flags, o *prepare.Options, f *given) {
	fs.Func("port", "NAME:[IP:]PORT: forward a port of the host to the port that an image declares under NAME "+
		"(80-tcp in a Docker image)",
		func(s string) error { return appendParsed(&o.Ports, s, parsePort) })
	fs.Func("set-env", "NAME=VALUE: set an environment variable for every app",
		func(s string) error { return appendParsed(&o.Environment, s, parseVariable) })
	for _, name := range []string{"set-env-file", "env-file"} { // rkt's name and Docker's
		fs.Func(name, "FILE: the same for each line of FILE, which is NAME=VALUE without export or quotes, or a "+
			"comment after #",
			func(s string) error { f.envFiles = append(f.envFiles, envFile{name, s}); return nil })
	}
	fs.BoolVar(&f.inherit, "inherit-env", false,
		"apps get the environment of this program, where nothing else sets a variable")
}

// podFlags are those of what the apps of the pod share.
func podFlags(fs *cli.Flags, o *prepare.Options) {
	fs.Func("volume", volumeHelp, o.Volumes.AddVolume)
	fs.Func("mount", mountHelp, o.Volumes.AddMount)
	o.Users = poddir.UsersAuto
	fs.BoolFunc("private-users", "auto, yes or no: run the pod in its own user namespace: root in it has no rights "+
		"outside. Files keep their owners' numbers. auto (default): yes, unless it needs the host's users; "+
		"without a value: yes",
		func(s string) (err error) { o.Users, err = poddir.ParseUsersMode(s); return err })
	fs.Func("selinux", "auto, yes, no, type:TYPE, filetype:TYPE or level:LEVEL: whether the apps have an SELinux "+
		"context, with categories that no other pod has, and what else it has (default: auto: yes if the host has "+
		"SELinux)", o.SELinux.Set)
	fs.Func("shm-size", "SIZE: the size of /dev/shm, which all apps share, such as 64m (in units of 1024)",
		func(s string) error { _, err := prepare.ParseSize(s); o.Shm = s; return err })
	fs.Func("pids-max", "N: how many processes and threads the apps may have together (default 4096); max for no "+
		"limit but the unit's TasksMax=", func(s string) error {
		_, err := prepare.ParseTasks(s)
		o.Tasks = s
		return err
	})
	o.Sysctl = map[string]string{}
	fs.Func("sysctl", "NAME=VALUE: set a kernel parameter of the pod's own network or IPC (net.*, fs.mqueue.*, "+
		"kernel.msg*, kernel.sem, kernel.shm*)", func(s string) error { return parseSysctl(o.Sysctl, s) })
}

// olderFlags are those of rkt 1.30 that have another name now, or no effect.
func olderFlags(fs *cli.Flags, f *given) {
	fs.BoolVar(&f.storeOnly, "store-only", false, "rkt's older name of --pull-policy=never")
	fs.BoolVar(&f.noStore, "no-store", false, "rkt's older name of --pull-policy=update")
	// overlayfs is all there is
	fs.BoolVar(new(bool), "no-overlay", false, "has no effect; rkt 1.30 needed it for --private-users")
	registerFlavor(fs, &f.flavors)
}

// Flags that a pod and an app have alike.
const (
	volumeHelp = "SOURCE:TARGET[:ro,z]: mount the host's directory or file SOURCE at TARGET\n" +
		"NAME:TARGET[:ro,z]: mount the named volume NAME, which is made if it does not exist\n" +
		"NAME,kind=host,source=PATH[,readOnly=true][,recursive=false][,propagation=slave][,relabel=shared]:\n" +
		"NAME,kind=named[,source=VOLUME][,readOnly=true][,relabel=shared]:\n" +
		"NAME,kind=empty[,mode=0755][,uid=0][,gid=0][,readOnly=true]: a volume for the apps of the pod to mount"
	mountHelp = "volume=NAME,target=PATH: mount it, in every app; this flag and --volume may also follow an image, " +
		"and mount in that app only"
)

// complete checks what was given.
func (c *call) complete(p *cli.Process, fs *cli.Flags, f *given) (_ *call, err error) {
	g, flags, manifest := fs.Global, fs.Words, f.manifest
	c.options.Warn = func(line string) { p.Say("%s", line) }
	if c.options.Flavor, err = chosenFlavor(p, fs, f.flavors); err != nil {
		return nil, err
	}
	if c.pullPolicy, err = cli.PullPolicy(flags, c.pullPolicy, f.storeOnly, f.noStore); err != nil {
		return nil, err
	}
	if c.options.UUID != "" && !poddir.ValidUUID(c.options.UUID) {
		return nil, fmt.Errorf("--uuid=%s: not a UUID", c.options.UUID)
	}
	if c.options.Claim.Name != "" && !poddir.ValidName(c.options.Claim.Name) {
		return nil, fmt.Errorf("--pod-name=%q: not a pod's name: at most 255 letters, digits and :_.@\\-, the first "+
			"a letter or a digit, and neither self nor a UUID", c.options.Claim.Name)
	}
	fromFiles, err := readVariables(f.envFiles)
	if err != nil {
		return nil, err
	}
	c.options.Environment = append(fromFiles, c.options.Environment...) // the later one counts
	if f.inherit {
		c.options.Inherit = inherited(p.Environ())
	}
	c.options.AllCaps, c.options.AllCalls, c.options.AllPaths = g.Insecure.Capabilities, g.Insecure.Seccomp,
		g.Insecure.Paths
	c.options.AnyImage = g.Insecure.OnDisk
	if manifest != "" {
		fetching := func(word string) bool {
			name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
			return strings.HasPrefix(word, "-") && slices.Contains([]string{"pull-policy", "store-only", "no-store"},
				name)
		}
		if c.pullPolicy != "new" && slices.ContainsFunc(flags, fetching) {
			return nil, errConflicting
		}
		return c, c.describe(p, manifest, fs.Args())
	}
	c.options.Apps, err = parseApps(fs.Args())
	return c, err
}

// errConflicting begins with rkt's words, for scripts.
var errConflicting = errors.New("conflicting flags set with --pod-manifest (see --help): it says what images, " +
	"--port, --set-env, --set-env-file, --inherit-env, --volume and --mount would, and takes its images from the store")

// describe takes the pod from a manifest, which has all that other flags would say.
func (c *call) describe(p *cli.Process, manifest string, images []string) error {
	o := &c.options
	images = slices.DeleteFunc(images, func(s string) bool { return s == "" }) // ${IMAGE} of a unit, without one
	if len(images)+len(o.Ports)+len(o.Environment)+len(o.Inherit)+len(o.Volumes.Volumes)+len(o.Volumes.Binds)+
		len(o.Volumes.Mounts) > 0 {
		return errConflicting
	}
	text, err := readBounded(p, manifest)
	if err == nil {
		err = o.SetManifest(text)
	}
	if err != nil {
		return fmt.Errorf("--pod-manifest=%s: %w", manifest, err)
	}
	return nil
}

// readBounded reads a file that is a manifest, or standard input for "-".
func readBounded(p *cli.Process, file string) ([]byte, error) {
	in := p.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return bounded.Read(in, poddir.MaxFile)
}

// parseApps reads IMAGE [flags] [-- args] [---] IMAGE …; the separator may be left out between
// images without arguments, as in rkt.
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
		flags, operands, err := cli.Leading(fs.FlagSet, head)
		if err == nil {
			err = cli.ParseFlags(fs.FlagSet, flags)
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

// appFlags are the flags that follow an image. They are never read from the environment: a stray
// RKT_EXEC would be every app's --exec.
func appFlags(app *prepare.App) *cli.Flags {
	fs := cli.NoFlags("")
	fs.StringVar(&app.Name, "name", "", "NAME: the app's name (default: the last part of the image's)")
	fs.StringVar(&app.Exec, "exec", "", "PATH: run this program instead of the image's command")
	fs.StringVar(&app.WorkingDir, "working-dir", "", "DIR: run it in this directory")
	fs.StringVar(&app.Signature, "signature", "", "FILE: the image's signature, if it is not beside the image")
	fs.StringVar(&app.User, "user", "", "USER[:GROUP]: user to run as: UID, user name in the image, or a path in the "+
		"image whose owner is used")
	fs.StringVar(&app.Group, "group", "", "GROUP: group to run as: GID, group name in the image, or a path in the "+
		"image whose group is used")
	fs.Func("supplementary-gids", "GID,...: further groups", func(s string) error { return setGroups(app, s) })
	for _, name := range prepare.StreamNames {
		help := "STREAM: log (default): the journal; null, stream, or tty"
		if name == "stdin" {
			help = "STREAM: null (default), or for rkt-attach: stream, a pipe, or tty, a terminal"
		}
		fs.Func(name, help, func(s string) error { return app.SetStream(name, s) })
	}
	healthFlags(fs, app)
	fs.BoolVar(&app.ReadOnly, "readonly-rootfs", false, "mount the root file system read-only; volumes stay writable")
	boolFunc := func(name, help string, set func(bool)) {
		fs.BoolFunc(name, help, func(s string) error {
			on, err := strconv.ParseBool(s)
			set(on)
			return err
		})
	}
	boolFunc("pid1", "run the app as PID 1 of a PID namespace of its own", app.SetPID1)
	boolFunc("init", "run the app under a small init, which reaps processes and passes signals on to the app",
		app.SetInit)
	fs.Func("environment", "NAME=VALUE: set an environment variable",
		func(s string) error { return appendParsed(&app.Environment, s, parseVariable) })
	fs.Func("env-file", "FILE: set those in FILE, as --set-env-file does for all apps", func(s string) error {
		variables, err := readFile(s) // --environment takes precedence, wherever it stands
		app.EnvironmentFile = append(app.EnvironmentFile, variables...)
		return err
	})
	fs.Func("volume", volumeHelp, app.Volumes.AddVolume)
	fs.Func("mount", mountHelp, app.Volumes.AddMount)
	limitFlags(fs, app)
	confinementFlags(fs, app)
	fs.Func("stop-signal", "SIGNAL: signal that asks the app to stop (default: the image's, or TERM)",
		app.SetStopSignal)
	fs.Func("stop-timeout", "SECONDS: kill the app that long after the signal (default: never; the unit's "+
		"TimeoutStopSec= holds for the whole pod)",
		app.SetStopTimeout)
	annotationFlags(fs, app)
	return fs
}

// annotationFlags are those of an app's annotations and labels.
func annotationFlags(fs *cli.Flags, app *prepare.App) {
	fs.Func("annotation", "NAME=VALUE: an annotation of the app in the pod's manifest",
		func(s string) error { return annotate(app, s) })
	fs.Func("user-annotation", "NAME=VALUE: an annotation of the user's own, which rkt list --format=json has",
		func(s string) error { return set(&app.UserAnnotations, s) })
	for _, name := range []string{"user-label", "label"} {
		fs.Func(name, "NAME=VALUE: the same as a label", func(s string) error { return set(&app.UserLabels, s) })
	}
}

// limitFlags are those of resources.
func limitFlags(fs *cli.Flags, app *prepare.App) {
	number := func(name, help string, to **int) {
		fs.Func(name, help, func(s string) error {
			n, err := strconv.Atoi(s)
			if err != nil {
				return errors.New("not a number")
			}
			*to = &n
			return nil
		})
	}
	fs.StringVar(&app.Limits.Memory, "memory", "", "BYTES: memory limit, such as 128M (million) or 128Mi (1024*1024)")
	fs.StringVar(&app.Limits.CPU, "cpu", "", "N: CPU limit: 2 is two CPUs, 500m half of one")
	number("cpu-shares", "N: CPU weight, 1024 by default", &app.Limits.CPUShares)
	for _, name := range []string{"oom-score-adj", "oom-score-adjust"} { // the second as rkt's documentation called it
		number(name, "N: OOM score, -1000 to 1000", &app.Limits.OOMScore)
	}
	fs.Func("ulimit", "NAME=SOFT[:HARD]: a resource limit, such as nofile=4096:8192, core=unlimited (default: the "+
		"unit's, or the shell's)",
		app.SetLimit)
}

// confinementFlags are those of what the app may do.
func confinementFlags(fs *cli.Flags, app *prepare.App) {
	fs.Func("seccomp", "mode=retain|remove[,errno=NAME],CALL,...: seccomp filter: allow only these system calls, or "+
		"all but them; @rkt/default-whitelist is the default, @rkt/nested also has those that make namespaces, "+
		"@systemd/GROUP is a set", func(s string) error {
		if app.Limits.Seccomp != "" {
			return errors.New("is there twice; name all system calls in one")
		}
		app.Limits.Seccomp = s
		return nil
	})
	for _, name := range []string{"caps-retain", "cap-retain"} { // rkt's new and old spelling
		fs.Func(name, "CAP,...: keep just these capabilities; empty: none",
			func(s string) error { return appendList(&app.CapsRetain, s) })
	}
	for _, name := range []string{"caps-remove", "cap-remove"} {
		fs.Func(name, "CAP,...: keep the default ones without these; all: none",
			func(s string) error { return appendList(&app.CapsRemove, s) })
	}
	fs.Func("cap-add", "CAP,...: keep the default ones and these, or all",
		func(s string) error { return appendList(&app.CapAdd, s) })
	fs.Func("cap-drop", "CAP,...: keep the default ones without these, or none with all",
		func(s string) error { return appendList(&app.CapDrop, s) })
	fs.BoolVar(&app.NoNewPrivileges, "no-new-privileges", false, "setuid programs and file capabilities grant nothing")
	fs.Func("device", "/dev/X[:/dev/Y][:rwm]: a device of the host, and how it may be used", app.AddDevice)
	fs.Func("secret", "NAME,source=FILE[,target=PATH][,mode=0400][,uid=N][,gid=N]: give the app the content of the "+
		"host's FILE when it starts, in /run/secrets/NAME, for its user alone", app.AddSecret)
	fs.Func("tmpfs", "DIR[:OPTION,...]: an empty directory in memory at DIR: size=64m, mode=1777, uid=N, gid=N, "+
		"nr_inodes=N, ro, exec, suid",
		app.AddTmpfs)
	fs.Func("apparmor", "PROFILE: the AppArmor profile, or unconfined (default: rkt-default, where it is loaded)",
		app.SetAppArmor)
}

// healthFlags are those of the app's health check.
func healthFlags(fs *cli.Flags, app *prepare.App) {
	fs.BoolVar(&app.NoHealth, "no-healthcheck", false,
		"disable the image's health check, which kills an app that fails it")
	for _, flag := range [][2]string{
		{"cmd", "COMMAND: check the app's health by this line for the shell, or by a JSON array of a program and its " +
			"arguments; none: no check"},
		{"interval", "TIME: between two checks (default: the image's, or 30s)"},
		{"timeout", "TIME: a check that takes longer has failed (default: the image's, or 30s)"},
		{"retries", "N: the app is unhealthy when N checks in a row have failed (default: the image's, or 3)"},
		{"start-period", "TIME: after the app's start, for which failures do not count (default: the image's, or 0s)"},
		{"on-failure", "ACTION: what to do with an unhealthy app: kill it, which ends the pod (default), restart it " +
			"in its pod, stop it by its stop signal, none"},
		{"startup-cmd", "COMMAND: another check, which has to succeed first when the app starts"},
		{"startup-interval", "TIME: between two startup checks (default: 30s)"},
		{"startup-timeout", "TIME: a startup check that takes longer has failed (default: 30s)"},
		{"startup-retries", "N: the app is unhealthy when N startup checks in a row have failed (default: 0, never)"},
		{"startup-success", "N: how many startup checks have to succeed (default: 1)"},
	} {
		fs.Func("health-"+flag[0], flag[1], func(s string) error { return app.SetHealth(flag[0], s) })
	}
	fs.Func("ready", "WHEN: the app is ready for systemd's Type=notify: exec, when its program runs (default); "+
		"notify, when it says so by sd_notify(3); health, when it passes a health check the first time", app.SetReady)
}

// setGroups sets the app's further groups.
func setGroups(app *prepare.App, s string) error {
	app.SupplementaryGIDs = []uint32{}
	for _, f := range commaList(s) {
		gid, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			return fmt.Errorf("%q is not a number", f)
		}
		app.SupplementaryGIDs = append(app.SupplementaryGIDs, uint32(gid))
	}
	return nil
}

// annotate gives the app an annotation.
func annotate(app *prepare.App, s string) error {
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

// variableName are names that a line of a file can mean: not the word export, nor quotes, nor a
// space before the "=". On a command line, where a shell has taken those away, any name is meant.
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
		return types.ExposedPort{}, errors.New("not NAME:[IP:]PORT; give the port of the host, too: 80-tcp:8080")
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

// readFile reads NAME=VALUE lines; empty lines and those that begin with # or ; are comments, as in
// rkt. A value is taken as it is, and one that begins with a quote is refused: some programs would
// take the quotes off.
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
			err = fmt.Errorf("write the value of %s without quotes; for one that begins with a quote use --set-env",
				v.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all = append(all, v)
	}
	return all, nil
}

// ownVariables belong to the process that systemd started, not to an app that inherits its
// environment.
var ownVariables = []string{"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "INVOCATION_ID",
	"SYSTEMD_EXEC_PID", "JOURNAL_STREAM", "WATCHDOG_PID", "WATCHDOG_USEC", "MAINPID", "MANAGERPID",
	"CREDENTIALS_DIRECTORY", "_", "PWD", "OLDPWD", "SHLVL"}

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
