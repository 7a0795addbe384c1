// Package quadlet reads Podman's Quadlet files (podman-systemd.unit(5)) and says the same in rkt's
// words: the command line of "rkt run" for a .container or a .pod file, a program to run once for
// an
// .image or a .volume file, and a network of CNI for a .network file. Sections of systemd pass
// through. A key that has no counterpart is refused by a line that says what to write instead.
//
// Values keep systemd's specifiers and variables, as Quadlet's do.
package quadlet

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Unit is what a Quadlet file becomes.
type Unit struct {
	Name     string    // of the service, without .service
	Args     []string  // the command line of "rkt run"; empty for what is no pod
	Once     []string  // the program, without its directory, and arguments of a service that runs once
	Settings []Setting // of the service's unit, beside what a pod's has
	Reload   []string  // what ExecReload= runs: a program, without its directory, and arguments
	Offline  bool      // does not wait for the host's network

	Network     string // the name of a network
	NetworkText []byte // its file in net.d
	Note        string // why there is nothing to write
}

// Convert reads a Quadlet file.
func Convert(path string) (*Unit, error) {
	f, err := read(path)
	if err != nil {
		return nil, err
	}
	var u *Unit
	switch f.kind {
	case "container":
		u, err = container(f)
	case "pod":
		u, err = pod(f)
	case "volume":
		u, err = volume(f)
	case "network":
		u, err = network(f)
	case "image":
		u, err = imageUnit(f)
	case "kube":
		err = refusal("Kube", "Yaml")
	case "build":
		err = refusal("Build", "ImageTag")
	default:
		return nil, fmt.Errorf("%s: not a Quadlet file, whose name ends in .container, .pod, .volume, "+
			".network or .image", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return u, nil
}

// refusal is the error for a key that has no counterpart.
func refusal(section, key string) error {
	for _, row := range keys {
		if row.section == section && (row.key == key || row.key == "") {
			return fmt.Errorf("%s=: %s", key, row.here)
		}
	}
	return fmt.Errorf("%s=: not a key of [%s]", key, section)
}

// convert runs the settings of a section through the table.
func (c *conv) convert(f *file, section string) error {
	for _, s := range f.of(section) {
		i := slices.IndexFunc(keys, func(row row) bool { return row.section == section && row.key == s.Name })
		if i < 0 || keys[i].do == nil {
			return refusal(section, s.Name)
		}
		if err := keys[i].do(c, s.Value); err != nil {
			return fmt.Errorf("%s=%s: %w", s.Name, s.Value, err)
		}
	}
	return nil
}

// conv is a pod in the making.
type conv struct {
	file *file
	pod  []string // flags of the pod, its network and its start
	app  []string // of the app that is being read
	args []string // of that app

	image, name, entry string   // of that app; its program if that is not the image's
	inPod              bool     // the app is one of several
	nets               []string // networks, with their arguments
	readOnly, keepDirs bool     // of the app
	command            []string // that reloads it, without the app's name
	service            string   // another name for the service
	unit               Unit

	volume struct {
		name, user, group string
		empty             bool
	}
	net     netConf
	fetch   []string
	tag     string // ImageTag=
	machine machine
}

// own are the sections that are Quadlet's.
var own = []string{"Container", "Pod", "Volume", "Network", "Image", "Kube", "Build", "Quadlet", "X-Rkt"}

// container is a pod of one app.
func container(f *file) (*Unit, error) {
	if p := f.value("Container", "Pod"); p != "" {
		return nil, fmt.Errorf("is an app of a pod: convert %s, which has it", p)
	}
	c := &conv{file: f}
	if err := c.sections(f); err != nil {
		return nil, err
	}
	words, err := c.oneApp(f)
	if err != nil {
		return nil, err
	}
	return c.finish(f.name, words)
}

// oneApp is the command line of the app of a .container file.
func (c *conv) oneApp(f *file) ([]string, error) {
	was := c.file
	c.file, c.app, c.args, c.image, c.entry = f, nil, nil, "", ""
	c.readOnly, c.keepDirs, c.command = false, false, nil
	defer func() { c.file = was }()
	for _, section := range []string{"Container", "X-Rkt"} {
		if err := c.convert(f, section); err != nil {
			return nil, err
		}
	}
	if c.image == "" {
		return nil, fmt.Errorf("[Container] has no Image=, the image to run")
	}
	if c.readOnly && !c.keepDirs {
		c.app = append(c.app, "--tmpfs=/run", "--tmpfs=/tmp", "--tmpfs=/var/tmp")
	}
	if c.entry != "" {
		c.app = append(c.app, "--exec="+c.entry)
	}
	if err := c.reload(); err != nil {
		return nil, err
	}
	words := append([]string{c.image}, c.app...)
	if len(c.args) > 0 {
		words = append(append(words, "--"), c.args...)
	}
	return words, nil
}

// reload takes over the app's ReloadCmd= or ReloadSignal=.
func (c *conv) reload() error {
	if c.command == nil {
		return nil
	}
	if c.unit.Reload != nil {
		return fmt.Errorf("ReloadCmd=, ReloadSignal=: a service has one; keep one of them")
	}
	c.unit.Reload = c.command[:1:1]
	if c.inPod {
		c.unit.Reload = append(c.unit.Reload, "--app="+c.name)
	}
	c.unit.Reload = append(c.unit.Reload, c.command[1:]...)
	return nil
}

// finish is the unit of a pod.
func (c *conv) finish(name string, images []string) (*Unit, error) {
	for _, n := range c.nets {
		c.pod = append(c.pod, "--net="+n)
	}
	u := c.unit
	u.Name = name
	if c.service != "" {
		u.Name = c.service
	}
	u.Args = slices.Concat(c.pod, images)
	return &u, nil
}

// pod is the pod of a .pod file and of the .container files beside it that name it.
func pod(f *file) (*Unit, error) {
	c := &conv{file: f, inPod: true}
	if err := c.sections(f); err != nil {
		return nil, err
	}
	if err := c.convert(f, "Pod"); err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(filepath.Dir(f.path), "*.container"))
	if err != nil {
		return nil, err
	}
	var images []string
	for _, path := range paths {
		app, err := read(path)
		if err != nil {
			return nil, err
		}
		if app.value("Container", "Pod") != filepath.Base(f.path) {
			continue
		}
		c.name = acName(app.name)
		words, err := c.oneApp(app)
		if err == nil {
			err = c.member(f, app)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		if images != nil {
			images = append(images, "---")
		}
		images = append(append(append(images, words[0]), "--name="+c.name), words[1:]...)
	}
	if images == nil {
		return nil, fmt.Errorf("no .container file in %s has Pod=%s", filepath.Dir(f.path), filepath.Base(f.path))
	}
	return c.finish(f.name+"-pod", images)
}

// sections takes over what is systemd's.
func (c *conv) sections(f *file) error {
	for _, s := range f.of("Quadlet") {
		if s.Name != "DefaultDependencies" {
			return refusal("Quadlet", s.Name)
		}
		on, err := boolean(s.Value)
		if err != nil {
			return fmt.Errorf("%s=%s: %w", s.Name, s.Value, err)
		}
		c.unit.Offline = !on
	}
	for _, s := range f.settings {
		if slices.Contains(own, s.Section) {
			continue
		}
		if why := notOurs[s.Section+" "+s.Name]; why != "" && s.Value != "" {
			return fmt.Errorf("%s= in [%s]: %s", s.Name, s.Section, why)
		}
		if s = f.translate(s); s.Value != "" {
			c.unit.Settings = append(c.unit.Settings, s)
		}
	}
	return nil
}

// notOurs are settings of a service that a pod's unit has itself.
var notOurs = map[string]string{
	"Service ExecStart":   "is what runs the pod; Exec= in [Container] has the arguments of the app",
	"Service User":        "the unit runs as root, and the app as User= in [Container] says",
	"Service Group":       "the unit runs as root, and the app as Group= in [Container] says",
	"Service DynamicUser": "the unit runs as root, and the app as User= in [Container] says",
	"Service Delegate":    "leave it out: the pod's systemd needs the cgroups below the unit's",
}

// dependencies are settings that name units.
var dependencies = []string{"Wants", "Requires", "Requisite", "BindsTo", "PartOf", "Upholds", "Conflicts",
	"Before", "After"}

// translate has a dependency name what a Quadlet file becomes. A network is no unit.
func (f *file) translate(s Setting) Setting {
	if s.Section != "Unit" || !slices.Contains(dependencies, s.Name) {
		return s
	}
	var list []string
	for name := range strings.FieldsSeq(s.Value) {
		base, kind := strings.TrimSuffix(name, filepath.Ext(name)), filepath.Ext(name)
		switch kind {
		case ".network":
			continue
		case ".container", ".pod", ".volume", ".image":
			to, err := f.sibling(name)
			if err != nil {
				to = &file{name: base, kind: kind[1:]}
			}
			if kind == ".volume" && !to.needsUnit() {
				continue
			}
			name = to.serviceName() + ".service"
		}
		list = append(list, name)
	}
	s.Value = strings.Join(list, " ")
	return s
}

// serviceName is the name of the service that a file becomes.
func (f *file) serviceName() string {
	section := strings.ToUpper(f.kind[:1]) + f.kind[1:]
	if name := f.value(section, "ServiceName"); name != "" {
		return name
	}
	if f.kind == "container" {
		return f.name
	}
	return f.name + "-" + f.kind
}

// member takes over what a container of a pod says to systemd: the pod has one service.
func (c *conv) member(pod, app *file) error {
	has := func(section, name string) bool {
		return slices.ContainsFunc(c.unit.Settings, func(s Setting) bool {
			return s.Section == section &&
				s.Name == name
		})
	}
	install := !slices.ContainsFunc(pod.settings, func(s Setting) bool { return s.Section == "Install" })
	for _, s := range app.settings {
		switch {
		case slices.Contains(own, s.Section) || s.Section == "Unit" && s.Name == "Description":
		case s.Section == "Install":
			if install {
				c.unit.Settings = append(c.unit.Settings, s)
			}
		case s.Section == "Unit" && slices.Contains(dependencies, s.Name):
			if s = app.translate(s); s.Value != "" && !c.isMember(pod, app, s.Value) {
				c.unit.Settings = append(c.unit.Settings, s)
			}
		case s.Section == "Service" && (s.Name == "Restart" || s.Name == "TimeoutStartSec"):
			if !has(s.Section, s.Name) {
				c.unit.Settings = append(c.unit.Settings, s)
			}
		default:
			return fmt.Errorf("%s= in [%s]: the pod is one service; write it in %s", s.Name, s.Section,
				filepath.Base(pod.path))
		}
	}
	return nil
}

// isMember reports whether a dependency is on the pod itself or on an app of it, which start
// together.
func (c *conv) isMember(pod, app *file, value string) bool {
	for name := range strings.FieldsSeq(value) {
		other, err := app.sibling(strings.TrimSuffix(name, ".service") + ".container")
		if name != pod.serviceName()+".service" && (err != nil || other.value("Container",
			"Pod") != filepath.Base(pod.path)) {
			return false
		}
	}
	return true
}

// depend has the unit need another one.
func (c *conv) depend(service string) {
	for _, name := range []string{"Requires", "After"} {
		s := Setting{"Unit", name, service + ".service"}
		if !slices.Contains(c.unit.Settings, s) {
			c.unit.Settings = append(c.unit.Settings, s)
		}
	}
}

// acName is a name in the letters that names of apps and volumes have.
func acName(s string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(s)), "-")
}

// boolean reads a boolean as systemd does.
func boolean(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, fmt.Errorf("neither yes nor no")
}
