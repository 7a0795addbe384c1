package quadlet

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

type taker = func(c *conv, value string) error

// app has a flag of the app take the value.
func app(flag string) taker {
	return func(c *conv, v string) error { c.app = append(c.app, flag+v); return nil }
}

// podFlag has a flag of the pod take the value.
func podFlag(flag string) taker {
	return func(c *conv, v string) error { c.pod = append(c.pod, flag+v); return nil }
}

// pod1 is podFlag for a pod of one app. In others the value is the app's name.
func pod1(flag string) taker {
	return func(c *conv, v string) error {
		if c.inPod {
			c.name = acName(v)
			return nil
		}
		return podFlag(flag)(c, v)
	}
}

func fetchFlag(flag string) taker {
	return func(c *conv, _ string) error { c.fetch = append(c.fetch, flag); return nil }
}

// fileFlag is app for a path, which may be relative to the file.
func fileFlag(flag string) taker {
	return func(c *conv, v string) error { return app(flag)(c, c.path(v)) }
}

// path is an absolute path. One that begins with a specifier is left alone.
func (c *conv) path(s string) string {
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, "%") {
		return s
	}
	return filepath.Join(filepath.Dir(c.file.path), s)
}

// each has a taker take each word of a value.
func each(do taker) taker {
	return func(c *conv, v string) error {
		list, err := words(v)
		for _, word := range list {
			if err == nil {
				err = do(c, word)
			}
		}
		return err
	}
}

// yes is for a boolean; a nil taker does nothing. A flag is given without the value.
func yes(on, off taker) taker {
	return func(c *conv, v string) error {
		is, err := boolean(v)
		do := off
		if is {
			do = on
		}
		if err != nil || do == nil {
			return err
		}
		return do(c, "")
	}
}

// only is for a key some of whose values say what is so anyway.
func only(values ...string) taker {
	return func(_ *conv, v string) error {
		if !slices.Contains(values, strings.ToLower(v)) {
			return fmt.Errorf("rkt has %s only; leave it out", strings.Join(values, ", "))
		}
		return nil
	}
}

func nothing(*conv, string) error { return nil }

func serviceName(c *conv, v string) error { c.service = strings.TrimSuffix(v, ".service"); return nil }

func device(c *conv, v string) error {
	if strings.HasPrefix(v, "-") {
		return errors.New("write it without the -, and leave it out where there is no such device")
	}
	return app("--device=")(c, v)
}

func host(c *conv, v string) error {
	name, ip, ok := strings.Cut(v, ":")
	if !ok || ip == "host-gateway" {
		return errors.New("not NAME:ADDRESS")
	}
	return podFlag("--hosts-entry=")(c, strings.Trim(ip, "[]")+"="+name)
}

func autoUpdate(c *conv, v string) error {
	if v != "registry" && v != "local" {
		return errors.New("neither registry nor local")
	}
	c.unit.Settings = append(c.unit.Settings, Setting{"Service", "X-Rkt-Update", v})
	return nil
}

func entrypoint(c *conv, v string) error {
	var list []string
	if !strings.HasPrefix(v, "[") {
		list = []string{v}
	} else if err := json.Unmarshal([]byte(v), &list); err != nil || len(list) == 0 {
		return errors.New("not a JSON array of a program and its arguments")
	}
	c.entry, c.args = list[0], append(list[1:], c.args...)
	return nil
}

func environment(c *conv, v string) error {
	return each(func(c *conv, word string) error {
		if !strings.Contains(word, "=") {
			return fmt.Errorf("%s: has no value; write %s=VALUE, or %s=${%s} with PassEnvironment=%s in "+
				"[Service]", word, word, word, word, word)
		}
		return app("--environment=")(c, word)
	})(c, v)
}

func arguments(c *conv, v string) error {
	list, err := words(v)
	c.args = append(c.args, list...)
	return err
}

func groups(c *conv, v string) error {
	if v == "keep-groups" {
		return errors.New("the unit runs as root; name the groups")
	}
	return app("--supplementary-gids=")(c, v)
}

func logDriver(c *conv, v string) error {
	switch v {
	case "journald", "passthrough":
	case "none":
		c.app = append(c.app, "--stdout=null", "--stderr=null")
	default:
		return errors.New("output goes to the journal; leave it out")
	}
	return nil
}

var podmanSize = regexp.MustCompile(`^([0-9]+)([bkmgtBKMGT]?)(?:i?[bB])?$`)

// memory takes Podman's 512m, which is 512 MiB.
func memory(c *conv, v string) error {
	m := podmanSize.FindStringSubmatch(v)
	if m == nil && !strings.ContainsAny(v, "%$") {
		return errors.New("not a size such as 512m")
	}
	if m != nil {
		v = m[1] + map[string]string{"k": "Ki", "m": "Mi", "g": "Gi", "t": "Ti"}[strings.ToLower(m[2])]
	}
	return app("--memory=")(c, v)
}

func notify(c *conv, v string) error {
	if v == "healthy" {
		return app("--ready=health")(c, "")
	}
	return yes(func(c *conv, _ string) error {
		c.unit.Settings = append(c.unit.Settings, Setting{"Service", "NotifyAccess", "all"})
		return app("--ready=notify")(c, "")
	}, nil)(c, v)
}

func pids(c *conv, v string) error {
	if v == "-1" || v == "0" {
		v = "max"
	}
	return podFlag("--pids-max=")(c, v)
}

func pull(c *conv, v string) error {
	policy := map[string]string{"always": "update", "newer": "update", "missing": "new", "never": "never"}[v]
	if policy == "" {
		return errors.New("none of always, newer, missing, never")
	}
	return podFlag("--pull-policy=")(c, policy)
}

func fetchPolicy(c *conv, v string) error {
	flags := c.pod
	err := pull(c, v)
	c.fetch = append(c.fetch, c.pod[len(flags):]...)
	c.pod = flags
	return err
}

func readOnly(c *conv, v string) (err error) {
	if c.readOnly, err = boolean(v); c.readOnly {
		c.app = append(c.app, "--readonly-rootfs=true")
	}
	return err
}

func readOnlyTmpfs(c *conv, v string) error {
	on, err := boolean(v)
	c.keepDirs = !on
	return err
}

func reloadCmd(c *conv, v string) error {
	list, err := words(v)
	c.command = append([]string{"rkt-enter", "self"}, list...)
	return err
}

func reloadSignal(c *conv, v string) error {
	c.command = []string{"rkt-kill", "--signal=" + v, "self"}
	return nil
}

func podTimeout(c *conv, v string) error {
	c.unit.Settings = append(c.unit.Settings, Setting{"Service", "TimeoutStopSec", v})
	return nil
}

func timezone(c *conv, v string) error {
	if v == "local" {
		return app("--volume=/etc/localtime:/etc/localtime:ro")(c, "")
	}
	return app("--environment=TZ=")(c, v)
}

func ulimit(c *conv, v string) error {
	if v == "host" {
		return errors.New("name the limit: Ulimit=nofile=SOFT:HARD; without it an app has the unit's limits " +
			"(LimitNOFILE= and the like)")
	}
	return app("--ulimit=")(c, v)
}

func userNS(c *conv, v string) error {
	users := map[string]string{"auto": "yes", "host": "no"}[v]
	if users == "" {
		return errors.New("rkt has auto and host; files keep their owners' numbers in both")
	}
	return podFlag("--private-users=")(c, users)
}

var port = regexp.MustCompile(
	`^(?:(\[[^]]*\]|[^:\[]+):)?([0-9]*)(?:-([0-9]+))?:([0-9]+)(?:-([0-9]+))?(?:/(tcp|udp|sctp))?$`)

// publish takes [IP:]HOSTPORT[-LAST]:PORT[-LAST][/PROTOCOL].
func publish(c *conv, v string) error {
	m := port.FindStringSubmatch(v)
	if m == nil || m[2] == "" {
		return errors.New("not [IP:]HOSTPORT:PORT[/PROTOCOL]; name the port of the host, which is not chosen at random")
	}
	number := func(s, instead string) int {
		if s == "" {
			s = instead
		}
		n, err := strconv.Atoi(s)
		if err != nil || n > 1<<16 {
			return 1 << 16
		}
		return n
	}
	first, last := number(m[4], ""), number(m[5], m[4])
	to, end := number(m[2], ""), number(m[3], m[2])
	if last-first != end-to || last < first || last > 65535 || end > 65535 {
		return errors.New("not two ranges of as many ports")
	}
	ip, protocol := m[1], m[6]
	if ip != "" {
		ip += ":"
	}
	if protocol == "" {
		protocol = "tcp"
	}
	for n := range last - first + 1 {
		c.pod = append(c.pod, fmt.Sprintf("--port=%d-%s:%s%d", first+n, protocol, ip, to+n))
	}
	return nil
}

// transports are those of images that both have.
var transports = []string{"docker://", "oci:", "oci-archive:", "docker-archive:"}

func image(c *conv, v string) error {
	hasTransport := slices.ContainsFunc(transports, func(t string) bool { return strings.HasPrefix(v, t) })
	switch {
	case strings.HasSuffix(v, ".image"):
		f, err := c.file.sibling(v)
		if err != nil {
			return err
		}
		c.depend(f.serviceName())
		from := &conv{file: f, tag: f.value("Image", "ImageTag")}
		if err := image(from, f.value("Image", "Image")); err != nil {
			return fmt.Errorf("%s: Image=: %w", v, err)
		}
		c.image = from.reference()
		return nil
	case strings.HasSuffix(v, ".build"):
		return errors.New("rkt builds no images: buildah build IMAGE, buildah push IMAGE oci:DIR; " +
			"Image=oci:DIR runs it")
	case strings.HasPrefix(v, "localhost/") || strings.HasPrefix(v, "containers-storage:"):
		return errors.New("is in Podman's own storage: podman save --output=FILE IMAGE; " +
			"Image=docker-archive:FILE runs it")
	case strings.HasPrefix(v, "docker-daemon:") || strings.HasPrefix(v, "dir:") || v == "":
		return errors.New("write the name in a registry, oci:DIR, oci-archive:FILE or docker-archive:FILE")
	case hasTransport:
		c.image = v
	default:
		c.image = "docker://" + v
	}
	return nil
}

// reference is the image, with the name that an archive has for it.
func (c *conv) reference() string {
	if c.tag != "" && strings.Contains(c.image, "-archive:") {
		return c.image + ":" + c.tag
	}
	return c.image
}
