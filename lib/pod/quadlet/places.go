package quadlet

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// volumes takes [[SOURCE:]TARGET[:OPTIONS]]; all has every app of the pod mount it.
func volumes(all bool) taker {
	return func(c *conv, v string) error {
		parts := strings.Split(v, ":")
		if len(parts) > 3 {
			return errors.New("not [SOURCE:]TARGET[:OPTIONS]")
		}
		options := ""
		if len(parts) == 3 {
			options = parts[2]
		}
		to := &c.app
		if all {
			to = &c.pod
		}
		if len(parts) == 1 {
			name := cmp.Or(acName(v), "root")
			*to = append(*to, "--volume="+name+",kind=empty", "--mount=volume="+name+",target="+v)
			return nil
		}
		flag, err := c.bind(parts[0], parts[1], options)
		*to = append(*to, flag)
		return err
	}
}

// bind is the flag for a directory of the host or a named volume.
func (c *conv) bind(source, target, options string) (string, error) {
	switch {
	case strings.HasSuffix(source, ".volume"):
		f, err := c.file.sibling(source)
		if err != nil {
			return "", err
		}
		if f.needsUnit() {
			c.depend(f.serviceName())
		}
		source = f.volumeName()
	case strings.HasPrefix(source, "."):
		source = c.path(source)
	}
	if !strings.ContainsAny(source, "/%$") && acName(source) != source {
		return "", fmt.Errorf("%s: a volume's name has lower-case letters, digits and dashes; write %s",
			source, acName(source))
	}
	var kept []string
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "", "rw", "copy", "private", "rprivate", "nosuid", "nodev", "rbind":
		case "ro", "z", "Z", "slave", "rslave":
			kept = append(kept, option)
		case "U", "idmap":
			return "", fmt.Errorf("option %s: leave it out: files keep their owners' numbers, in a pod with "+
				"users of its own, too", option)
		default:
			return "", fmt.Errorf("option %s: rkt has ro, rw, z, Z, slave and private", option)
		}
	}
	flag := "--volume=" + source + ":" + target
	if kept != nil {
		flag += ":" + strings.Join(kept, ",")
	}
	return flag, nil
}

// mount takes type=bind|volume|tmpfs,….
func mount(c *conv, v string) error {
	of := map[string]string{}
	for field := range strings.SplitSeq(v, ",") {
		key, value, both := strings.Cut(field, "=")
		key = cmp.Or(map[string]string{"src": "source", "dst": "target", "destination": "target",
			"readonly": "ro", "rw": "readwrite"}[key], key)
		if !both {
			value = "true"
		}
		of[key] = value
	}
	kind, source, target := of["type"], of["source"], of["target"]
	var options []string
	for key, value := range of {
		switch {
		case key == "type" || key == "source" || key == "target":
		case key == "ro" && value == "true":
			options = append(options, "ro")
		case key == "ro" || key == "readwrite":
		case key == "relabel" && (value == "shared" || value == "private"):
			options = append(options, map[string]string{"shared": "z", "private": "Z"}[value])
		case key == "bind-propagation":
			options = append(options, value)
		case kind == "tmpfs" && key == "tmpfs-size":
			options = append(options, "size="+value)
		case kind == "tmpfs" && key == "tmpfs-mode":
			options = append(options, "mode="+value)
		default:
			return fmt.Errorf("%s: has no counterpart; leave it out", key)
		}
	}
	slices.Sort(options)
	switch {
	case target == "":
		return errors.New("has no target=")
	case kind == "tmpfs":
		if options != nil {
			target += ":" + strings.Join(options, ",")
		}
		return app("--tmpfs=")(c, target)
	case kind == "volume" && source == "":
		return volumes(false)(c, target)
	case (kind == "bind" || kind == "volume") && source != "":
		flag, err := c.bind(source, target, strings.Join(options, ","))
		c.app = append(c.app, flag)
		return err
	}
	return errors.New("rkt has type=bind with a source, volume and tmpfs")
}

// networks takes a network, with its options.
func networks(c *conv, v string) error {
	name, options, _ := strings.Cut(v, ":")
	switch {
	case strings.HasSuffix(name, ".network"):
		f, err := c.file.sibling(name)
		if err != nil {
			return err
		}
		name = f.networkName()
	case strings.HasSuffix(name, ".container") || name == "container":
		return errors.New("apps that share a network are a pod: write a .pod file, and Pod= in both")
	case slices.Contains([]string{"pasta", "slirp4netns", "ns"}, name):
		return errors.New("is for Podman without root; leave it out for the default network")
	case name == "bridge" || name == "private" || name == "":
		name = "default"
	}
	var args []string
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "":
		case "ip", "mac":
			args = append(args, strings.ToUpper(key)+"="+value)
		case "alias":
			args = append(args, option)
		default:
			return fmt.Errorf("%s: rkt has alias, ip and mac", key)
		}
	}
	at := slices.IndexFunc(c.nets, func(n string) bool { return strings.HasPrefix(n, ":") })
	if at >= 0 { // IP= stood before
		args = append(args, c.nets[at][1:])
		c.nets = slices.Delete(c.nets, at, at+1)
	}
	if args != nil {
		name += ":" + strings.Join(args, ";")
	}
	c.nets = append(c.nets, name)
	return nil
}

// address takes IP=, which is for the first network.
func address(c *conv, v string) error {
	switch {
	case len(c.nets) == 0:
		c.nets = []string{":IP=" + v}
	case strings.Contains(c.nets[0], ":"):
		c.nets[0] += ";IP=" + v
	default:
		c.nets[0] += ":IP=" + v
	}
	return nil
}

// volumeName is the name of the volume of a .volume file.
func (f *file) volumeName() string { return cmp.Or(f.value("Volume", "VolumeName"), f.name) }

// needsUnit reports whether a volume is to be made before a pod mounts it.
func (f *file) needsUnit() bool {
	copies, err := boolean(cmp.Or(f.value("Volume", "Copy"), "yes"))
	return f.value("Volume", "User") != "" || f.value("Volume", "Group") != "" || err == nil && !copies
}

func copyUp(c *conv, v string) error {
	on, err := boolean(v)
	c.volume.empty = !on
	return err
}

// volume is a service that makes a volume, where more is to be said of it than its name.
func volume(f *file) (*Unit, error) {
	c := &conv{file: f}
	if err := c.convert(f, "Volume"); err != nil {
		return nil, err
	}
	name := f.volumeName()
	if acName(name) != name {
		return nil, fmt.Errorf("%s: a volume's name has lower-case letters, digits and dashes; write "+
			"VolumeName=%s", name, acName(name))
	}
	if !f.needsUnit() {
		return &Unit{Note: fmt.Sprintf("nothing to write: the volume %s is made by the first pod that "+
			"mounts it", name)}, nil
	}
	once := []string{"rkt-volume", "create"}
	for _, flag := range [][2]string{{"--user=", c.volume.user}, {"--group=", c.volume.group}} {
		if flag[1] != "" {
			once = append(once, flag[0]+flag[1])
		}
	}
	return c.once(append(once, name))
}

// once is a service that runs a program once.
func (c *conv) once(argv []string) (*Unit, error) {
	if err := c.sections(c.file); err != nil {
		return nil, err
	}
	u := c.unit
	u.Name, u.Once = c.file.serviceName(), argv
	return &u, nil
}

type machine struct{ arch, variant string }

// imageUnit is a service that fetches an image.
func imageUnit(f *file) (*Unit, error) {
	c := &conv{file: f}
	if err := c.convert(f, "Image"); err != nil {
		return nil, err
	}
	if c.image == "" {
		return nil, errors.New("[Image] has no Image=, the image to fetch")
	}
	once := append([]string{"rkt-fetch"}, c.fetch...)
	if !slices.ContainsFunc(once, func(flag string) bool { return strings.HasPrefix(flag, "--pull-policy=") }) {
		once = append(once, "--pull-policy=new")
	}
	if m := c.machine; m != (machine{}) {
		platform := "--platform=linux/" + m.arch
		if m.variant != "" {
			platform += "/" + m.variant
		}
		once = append(once, platform)
	}
	return c.once(append(once, c.reference()))
}

// networkName is the name of the network of a .network file.
func (f *file) networkName() string { return cmp.Or(f.value("Network", "NetworkName"), f.name) }

func networkOptions(c *conv, v string) error {
	for option := range strings.SplitSeq(v, ",") {
		key, value, _ := strings.Cut(option, "=")
		n, err := strconv.Atoi(value)
		switch {
		case key == "mtu" && err == nil:
			c.net.mtu = n
		case key == "vlan" && err == nil:
			c.net.vlan = n
		case key == "parent":
			c.net.device = value
		case key == "mode":
			c.net.mode = value
		default:
			return fmt.Errorf("%s: rkt has mtu, parent, vlan and mode", option)
		}
	}
	return nil
}
