package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
)

// Annotations of the appc manifest of an image that was a Docker or OCI one. The first three are
// docker2aci's.
const (
	AnnotationEntrypoint = "appc.io/docker/entrypoint" // JSON array
	AnnotationCmd        = "appc.io/docker/cmd"        // JSON array
	AnnotationStopSignal = "appc.io/docker/stopsignal" // as the image says: a number or a name
	// AnnotationUser is Docker's "user[:group]". docker2aci gave an image that names a user but no
	// group the group 0, and so does FromOCI, for other readers of the manifest; the image means
	// the user's own group, which UserGroup tells.
	AnnotationUser = "appc.io/docker/user"
	// AnnotationEnvironment is a JSON array of those NAME=VALUE strings of the image that appc's
	// environment cannot hold (types.environment: names are letters, digits, "_", "." and "-").
	AnnotationEnvironment = "appc.io/docker/environment"
	// AnnotationHealth is Docker's HEALTHCHECK, a JSON object as in the image's configuration (see
	// Health).
	AnnotationHealth = "appc.io/docker/healthcheck"
)

// What an ACI says by its ports and annotations, an OCI image says by labels.
const (
	// AnnotationNotify is rkt's: an app of an image with the value "true" calls sd_notify(3). As a
	// label it has the same name.
	AnnotationNotify = "appc.io/executor/supports-systemd-notify"
	// AnnotationPID1, with the value "true", gives an app a PID namespace of its own, in which it
	// is PID 1; AnnotationInit one in which rkt's small init is. As labels they have the same
	// names.
	AnnotationPID1 = "coreos.com/rkt/stage2/pid1"
	AnnotationInit = "coreos.com/rkt/stage2/init"
	// labelActivated holds names of ports, separated by commas, that are socket activated:
	// "80-tcp,443-tcp", or a name of no exposed port for a unix socket.
	labelActivated = "appc.io/executor/socket-activated"
)

// maxList bounds each list of an image configuration. No program could be started with more
// variables of any length: the kernel takes 2 MiB of them.
const maxList = 4096

// config is the part of an OCI image configuration (image-spec, config.md) that means something to
// a pod.
type config struct {
	Created      string `json:"created"`
	Author       string `json:"author"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
	OS           string `json:"os"`
	Config       struct {
		User         string
		ExposedPorts map[string]struct{}
		Env          []string
		Entrypoint   []string
		Cmd          []string
		Volumes      map[string]struct{}
		WorkingDir   string
		Labels       map[string]string
		StopSignal   string
		Healthcheck  *Health
	} `json:"config"`
}

// Health is Docker's HEALTHCHECK. Times are in nanoseconds; 0 is Docker's default.
type Health struct {
	// NONE, CMD and a program with its arguments, CMD-SHELL and a line for the shell; none is NONE
	Test                           []string
	Interval, Timeout, StartPeriod time.Duration
	Retries                        int
}

// FromOCI makes the appc view of an OCI or Docker image configuration, as docker2aci made it. The
// image's name and its version label come from the reference it was fetched by. Exec is entry point
// and command together, and may be empty; user and group are "0" when the image says nothing. Of an
// environment variable that is set twice, the last value counts. The result always passes appc's
// validation, which a manifest is held to when it is written and read.
func FromOCI(configJSON []byte, ref Reference) (*schema.ImageManifest, error) {
	var c config
	if err := json.Unmarshal(configJSON, &c); err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	if n := max(len(c.Config.Env), len(c.Config.ExposedPorts), len(c.Config.Volumes),
		len(c.Config.Labels)); n > maxList {
		return nil, fmt.Errorf("image config: a list of %d entries, more than %d", n, maxList)
	}
	c.dropEmpty()
	m := schema.BlankImageManifest()
	name, version := ref.appcName()
	id, err := types.SanitizeACIdentifier(name)
	if err != nil {
		return nil, fmt.Errorf("image name %q: %w", name, err)
	}
	m.Name = types.ACIdentifier(id)
	if version != "" {
		m.Labels = append(m.Labels, types.Label{Name: "version", Value: version})
	}
	m.Labels = append(m.Labels, platformLabels(&c)...)
	odd, err := c.app(m)
	if err != nil {
		return nil, err
	}
	if err := c.annotate(m, odd); err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	if _, err := json.Marshal(m); err != nil { // where appc's own types check what they hold
		return nil, fmt.Errorf("image config: %w", err)
	}
	return m, nil
}

// app sets the manifest's app. It returns the variables that appc has no names for.
func (c *config) app(m *schema.ImageManifest) (odd []string, err error) {
	app := &types.App{Exec: types.Exec(slices.Concat(types.Exec{}, c.Config.Entrypoint, c.Config.Cmd)),
		User: "0", Group: "0"}
	if c.Config.User != "" {
		user, group, _ := strings.Cut(c.Config.User, ":")
		if user != "" {
			app.User = user
		}
		if group != "" {
			app.Group = group
		}
		m.Annotations.Set(AnnotationUser, c.Config.User)
	}
	if dir := c.Config.WorkingDir; dir != "" {
		app.WorkingDirectory = path.Join("/", dir)
	}
	app.UserLabels = c.Config.Labels
	app.Environment, odd = Environment(c.Config.Env)
	if app.Ports, err = ports(c.Config.ExposedPorts); err != nil {
		return nil, err
	}
	if err := activate(app, c.Config.Labels[labelActivated]); err != nil {
		return nil, err
	}
	for _, name := range []string{AnnotationNotify, AnnotationPID1, AnnotationInit} {
		if value, ok := c.Config.Labels[name]; ok {
			m.Annotations.Set(types.ACIdentifier(name), value)
		}
	}
	if app.MountPoints, err = mountPoints(c.Config.Volumes); err != nil {
		return nil, err
	}
	m.App = app
	return odd, nil
}

// annotate adds the annotations for what appc has no fields for.
func (c *config) annotate(m *schema.ImageManifest, odd []string) error {
	if _, err := types.NewDate(c.Created); err == nil {
		m.Annotations.Set("created", c.Created)
	}
	if c.Author != "" {
		m.Annotations.Set("authors", c.Author)
	}
	if c.Config.StopSignal != "" {
		m.Annotations.Set(AnnotationStopSignal, c.Config.StopSignal)
	}
	if c.Config.Healthcheck != nil {
		text, err := json.Marshal(c.Config.Healthcheck)
		if err != nil {
			return err
		}
		m.Annotations.Set(AnnotationHealth, string(text))
	}
	for _, of := range []struct {
		name types.ACIdentifier
		list []string
	}{{AnnotationEntrypoint, c.Config.Entrypoint}, {AnnotationCmd, c.Config.Cmd}, {AnnotationEnvironment, odd}} {
		if len(of.list) == 0 {
			continue
		}
		text, err := json.Marshal(of.list)
		if err != nil {
			return err
		}
		m.Annotations.Set(of.name, string(text))
	}
	slices.SortFunc(m.Annotations, func(a, b types.Annotation) int {
		return strings.Compare(string(a.Name), string(b.Name))
	})
	return nil
}

// dropEmpty drops what tools leave in a configuration that says nothing.
func (c *config) dropEmpty() {
	if len(c.Config.Entrypoint) == 1 && c.Config.Entrypoint[0] == "" {
		c.Config.Entrypoint = nil
	}
	if len(c.Config.Entrypoint) == 0 && len(c.Config.Cmd) == 1 && c.Config.Cmd[0] == "" {
		c.Config.Cmd = nil
	}
	c.Config.Env = slices.DeleteFunc(c.Config.Env, func(s string) bool { return s == "" })
	delete(c.Config.ExposedPorts, "")
	delete(c.Config.Volumes, "")
}

// UserGroup gives the user and group that an image's app is to run as. A group of "" means the
// user's own, by the image's passwd file: a Docker image that names only a user means that, and
// appc has no way to say it.
func UserGroup(m *schema.ImageManifest) (user, group string) {
	if m.App == nil {
		return "0", "0"
	}
	if docker, ok := m.Annotations.Get(AnnotationUser); ok {
		if _, group, _ := strings.Cut(docker, ":"); group == "" {
			return m.App.User, ""
		}
	}
	return m.App.User, m.App.Group
}

// appcName is the name and version that the appc manifest of an OCI image gets.
func (r Reference) appcName() (name, version string) {
	switch r.Kind {
	case Docker:
		if r.Digest != "" {
			return r.Host + "/" + r.Repository, r.Digest
		}
		return r.Host + "/" + r.Repository, r.Tag
	case OCILayout:
		return path.Base(r.Path), r.Tag
	case OCIArchive, DockerArchive:
		file := path.Base(r.Path)
		for _, ending := range []string{".gz", ".bz2", ".xz", ".zst", ".tar", ".tgz"} {
			if short := strings.TrimSuffix(file, ending); short != "" {
				file = short
			}
		}
		return file, r.Tag
	}
	return r.Name(), ""
}

// platformLabels are os and arch by appc's names. Platforms that appc does not know have no name
// there, and no label.
func platformLabels(c *config) types.Labels {
	variant := strings.TrimPrefix(c.Variant, "v")
	if c.Architecture == "arm64" || c.Architecture == "amd64" {
		variant = "" // v8; appc has no name for levels of amd64
	}
	os, arch, err := types.ToAppcOSArch(c.OS, c.Architecture, variant)
	if err == nil {
		return types.Labels{{Name: "os", Value: os}, {Name: "arch", Value: arch}}
	}
	if _, known := types.ValidOSArch[c.OS]; known {
		return types.Labels{{Name: "os", Value: c.OS}}
	}
	return nil
}

// Environment reads NAME=VALUE strings. It keeps the first position and the last value of each
// name, as an assignment would, and returns apart what appc cannot hold (see
// AnnotationEnvironment).
func Environment(list []string) (env types.Environment, odd []string) {
	env = types.Environment{}
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		one := types.Environment{{Name: name, Value: value}}
		if _, err := one.MarshalJSON(); err != nil || !ok || strings.ContainsRune(value, 0) {
			odd = append(odd, s)
			continue
		}
		env.Set(name, value)
	}
	return env, odd
}

// ports reads config.md's "port/protocol", "port" (tcp) and Docker's ranges "first-last/protocol";
// the port's name is the same with a dash: "80-tcp".
func ports(exposed map[string]struct{}) ([]types.Port, error) {
	var all []types.Port
	for _, s := range slices.Sorted(maps.Keys(exposed)) {
		numbers, protocol, ok := strings.Cut(strings.ToLower(s), "/")
		if !ok {
			protocol = "tcp"
		}
		first, last, isRange := strings.Cut(numbers, "-")
		if !isRange {
			last = first
		}
		low, err1 := strconv.ParseUint(first, 10, 16)
		high, err2 := strconv.ParseUint(last, 10, 16)
		if err := errors.Join(err1, err2); err != nil || low == 0 || low > high ||
			!slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
			return nil, fmt.Errorf("image config: exposed port %q is not PORT/PROTOCOL", s)
		}
		name := types.ACName(strconv.FormatUint(low, 10) + "-" + protocol)
		if low != high {
			name = types.ACName(fmt.Sprintf("%d-%d-%s", low, high, protocol))
		}
		if slices.ContainsFunc(all, func(p types.Port) bool { return p.Name == name }) {
			continue // "80" and "80/tcp"
		}
		all = append(all, types.Port{Name: name, Protocol: protocol, Port: uint(low), Count: uint(high - low + 1)})
	}
	return all, nil
}

// activate marks the ports that labelActivated names. A name of its own is a unix socket's; appc
// has none without a number.
func activate(app *types.App, names string) error {
	if names == "" {
		return nil
	}
	for name := range strings.SplitSeq(names, ",") {
		name, err := types.NewACName(strings.Replace(strings.TrimSpace(name), "/", "-", 1))
		if err != nil {
			return fmt.Errorf("image config: label %s: %w", labelActivated, err)
		}
		i := slices.IndexFunc(app.Ports, func(p types.Port) bool { return p.Name == *name })
		if i < 0 {
			i = len(app.Ports)
			app.Ports = append(app.Ports, types.Port{Name: *name, Protocol: "unix", Port: 1, Count: 1})
		}
		app.Ports[i].SocketActivated = true
	}
	return nil
}

// mountPoints names a volume "volume-" and its path with dashes, as docker2aci did; a number after
// it keeps two paths apart whose names would be one.
func mountPoints(volumes map[string]struct{}) ([]types.MountPoint, error) {
	var all []types.MountPoint
	for _, s := range slices.Sorted(maps.Keys(volumes)) {
		dir := path.Join("/", s)
		if strings.ContainsRune(dir, 0) || dir == "/" {
			return nil, fmt.Errorf("image config: volume %q is not a path", s)
		}
		if slices.ContainsFunc(all, func(m types.MountPoint) bool { return m.Path == dir }) {
			continue
		}
		base, err := types.SanitizeACName("volume" + dir)
		if err != nil {
			return nil, fmt.Errorf("image config: volume %q: %w", s, err)
		}
		name := base
		for n := 2; slices.ContainsFunc(all, func(m types.MountPoint) bool { return m.Name.String() == name }); n++ {
			name = base + "-" + strconv.Itoa(n)
		}
		all = append(all, types.MountPoint{Name: types.ACName(name), Path: dir})
	}
	return all, nil
}
