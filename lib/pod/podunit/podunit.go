// Package podunit writes the unit files of a service that is a pod, out of a command line of "rkt
// run". Every value in them passes lib/host/unitfile, so that the programs are given what was on
// that command line, whatever it is.
//
// What an administrator changes later is a variable of the unit: the images, the memory and CPU
// limits of apps, and the host's ports. "systemctl edit" with an Environment= line changes it.
package podunit

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rkt-toolkit/rkt/lib/host/unitfile"
)

// Pod is what a service is to run.
type Pod struct {
	Name        string   // of the unit, without .service; one that ends in "@" is a template
	Programs    string   // the directory of the programs, absolute
	Prepare     []string // flags of rkt-prepare, --NAME=VALUE
	Net         []string // of rkt-net add
	Run         []string // of rkt-run-prepared
	Apps        []App
	Environment [][2]string // RKT_… variables, in order

	// Imported says that the pod comes from a unit file of another kind: in all values of flags and
	// in arguments, % begins a specifier and $ a variable, as systemd has it, and what is not in
	// Settings has systemd's default.
	Imported bool
	Settings []Setting // of that file, or of the caller; they take the place of those of this package
	Reload   []string  // the program and arguments of ExecReload=, without its directory
	Offline  bool      // does not wait for the network
}

// App is one image of a pod.
type App struct {
	Image string
	Flags []string // --NAME=VALUE
	Args  []string // which follow a "--"
}

// Setting is a line of a unit file.
type Setting struct{ Section, Name, Value string }

// validName has the characters of systemd.unit(5), without those that a shell or a specifier would
// see.
var validName = regexp.MustCompile(`^[A-Za-z0-9:_.-]{1,200}(@|@[A-Za-z0-9:_.-]{1,50})?$`)

// ValidName reports whether a service can be called so: letters, digits and :_.-, with an @ at the
// end for a template, or before the name of an instance.
func ValidName(name string) bool { return validName.MatchString(name) && !strings.HasPrefix(name, ".") }

// Service is the text of NAME.service, in the composed form: each step of the pod's life is a line.
func (p *Pod) Service() ([]byte, error) {
	if !ValidName(p.Name) {
		return nil, fmt.Errorf("%q: not the name of a service", p.Name)
	}
	w := &writer{Pod: p}
	w.unit()
	w.add("Service", "Type", "notify")
	w.add("Service", "Slice", "machine.slice")
	w.add("Service", "Delegate", "yes")
	if err := p.allowDevices(&w.file); err != nil {
		return nil, err
	}
	lines, err := w.commands()
	if err != nil {
		return nil, err
	}
	if err := w.environment(); err != nil {
		return nil, err
	}
	w.given("Service", func(s Setting) bool { return !late[s.Name] })
	for _, l := range lines {
		w.file.Add("Service", l.name, l.value[0], l.value[1:]...)
	}
	w.given("Service", func(s Setting) bool { return late[s.Name] })
	w.add("Service", "TimeoutStartSec", "10min") // an image may have to be fetched
	w.add("Service", "KillMode", "mixed")
	if !p.Imported {
		w.add("Service", "Restart", "always")
		w.add("Install", "WantedBy", "multi-user.target")
	}
	w.given("", func(s Setting) bool { return s.Section != "Unit" && s.Section != "Service" })
	return w.file.Bytes()
}

// Once is the text of NAME.service that runs a program of rkt's once.
func (p *Pod) Once(argv []string) ([]byte, error) {
	if !ValidName(p.Name) {
		return nil, fmt.Errorf("%q: not the name of a service", p.Name)
	}
	words, err := unitfile.Exec(filepath.Join(p.Programs, argv[0]), p.texts(argv[1:])...)
	if err != nil {
		return nil, err
	}
	w := &writer{Pod: p}
	w.unit()
	w.add("Service", "Type", "oneshot")
	w.add("Service", "RemainAfterExit", "yes")
	if err := w.environment(); err != nil {
		return nil, err
	}
	w.given("Service", func(Setting) bool { return true })
	lines := layout("ExecStart", words)
	w.file.Add("Service", "ExecStart", lines[0], lines[1:]...)
	w.given("", func(s Setting) bool { return s.Section != "Unit" && s.Section != "Service" })
	return w.file.Bytes()
}

// late are settings of a service whose order with the lines of this package matters, and which
// follow these.
var late = map[string]bool{"ExecStartPost": true, "ExecReload": true, "ExecStop": true, "ExecStopPost": true}

// writer is a service's unit in the making.
type writer struct {
	*Pod
	file      unitfile.File
	variables []string // values of Environment= lines
	names     []string // of these variables
}

// add adds a line, unless the caller has given another one.
func (w *writer) add(section, name, value string) {
	if !slices.ContainsFunc(w.Settings, func(s Setting) bool { return s.Section == section && s.Name == name }) {
		w.file.Add(section, name, value)
	}
}

// given adds what the caller has given for a section, or for any section if that is "".
func (w *writer) given(section string, wanted func(Setting) bool) {
	for _, s := range w.Settings {
		if (section == "" || s.Section == section) && wanted(s) {
			w.file.Add(s.Section, s.Name, s.Value)
		}
	}
}

// unit adds the section [Unit].
func (w *writer) unit() {
	description := "Pod " + w.Name
	if len(w.Apps) == 0 && w.Imported {
		description = w.Name
	}
	if strings.HasSuffix(w.Name, "@") {
		description += "%i"
	}
	w.add("Unit", "Description", description)
	w.given("Unit", func(Setting) bool { return true })
	if !w.Offline {
		w.file.Add("Unit", "Wants", "network-online.target")
		w.file.Add("Unit", "After", "network-online.target")
	}
	if slices.Contains(w.Run, "--mds-register=true") {
		w.file.Add("Unit", "Wants", "rkt-metadata.socket")
		w.file.Add("Unit", "After", "rkt-metadata.socket")
	}
}

// environment adds the variables.
func (w *writer) environment() error {
	for _, v := range w.Environment {
		text, err := unitfile.Environment(v[0], unitfile.Literal(v[1]))
		if err != nil {
			return err
		}
		w.file.Add("Service", "Environment", text)
	}
	for _, text := range w.variables {
		w.file.Add("Service", "Environment", text)
	}
	return nil
}

// command is a line of the service that runs a program.
type command struct {
	name  string
	value []string // the lines that it is laid out in
}

// commands are the steps of the pod's life.
func (w *writer) commands() (list []command, err error) {
	operands := w.operands()
	steps := []struct {
		name, program string
		args          [][]unitfile.Text
	}{
		{"ExecStartPre", "rkt-prepare", [][]unitfile.Text{w.ports(), operands}},
		{"ExecStartPre", "rkt-net", [][]unitfile.Text{{"add"}, w.texts(w.Net), {"self"}}},
		{"ExecStart", "rkt-run-prepared", [][]unitfile.Text{w.texts(w.Run), {"self"}}},
		{"ExecReload", "", [][]unitfile.Text{w.texts(w.Reload)}},
		{"ExecStopPost", "rkt-net", [][]unitfile.Text{{"del", "self"}}},
		{"ExecStopPost", "rkt-gc", [][]unitfile.Text{{"self"}}},
	}
	for _, step := range steps {
		args := slices.Concat(step.args...)
		if step.program == "" {
			if len(args) == 0 {
				continue
			}
			step.program, args = string(args[0]), args[1:]
		}
		words, err := unitfile.Exec(filepath.Join(w.Programs, step.program), args...)
		if err != nil {
			return nil, err
		}
		list = append(list, command{step.name, layout(step.name, words)})
	}
	return list, nil
}

// columns is how long a line may be before it is laid out in several.
const columns = 90

// layout gives each flag of a long command line, and each image, a line of its own; arguments of an
// app share one.
func layout(name string, words []string) (lines []string) {
	if whole := strings.Join(words, " "); len(name)+1+len(whole) <= columns {
		return []string{whole}
	}
	args, begun := false, false
	for i, word := range words {
		switch {
		case word == "---":
			args = false
		case word == "--" && !args:
			args = true
			lines = append(lines, word)
			continue
		}
		begun = begun || strings.HasPrefix(word, "-") || strings.HasPrefix(word, "${")
		if i == 0 || !args && begun {
			lines = append(lines, word)
		} else {
			lines[len(lines)-1] += " " + word
		}
	}
	return lines
}

// text is a value as it is to stand in the unit. In a template, %i and %I are those of systemd.
func (p *Pod) text(s string) unitfile.Text {
	if p.Imported {
		return unitfile.Text(s)
	}
	if !strings.Contains(p.Name, "@") {
		return unitfile.Literal(s)
	}
	var text unitfile.Text
	for {
		at := strings.IndexByte(s, '%')
		if at < 0 || at == len(s)-1 {
			return text + unitfile.Literal(s)
		}
		text += unitfile.Literal(s[:at])
		switch s[at+1] {
		case 'i', 'I', '%':
			text += unitfile.Text(s[at : at+2])
			s = s[at+2:]
		default:
			text += unitfile.Literal("%")
			s = s[at+1:]
		}
	}
}

func (p *Pod) texts(words []string) (list []unitfile.Text) {
	for _, word := range words {
		list = append(list, p.text(word))
	}
	return list
}

// variable gives a value a name by which "systemctl edit" can change it. A value that no
// environment variable can hold stays where it is, and so do all if the apps get the environment.
func (w *writer) variable(name, value string) unitfile.Text {
	name = strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(name))
	line, err := unitfile.Environment(name, w.text(value))
	if err != nil || slices.Contains(w.names, name) || slices.Contains(w.Prepare, "--inherit-env=true") {
		return w.text(value)
	}
	w.names, w.variables = append(w.names, name), append(w.variables, line)
	return unitfile.Variable(name)
}

// ports are the flags of rkt-prepare, with the host's ports in variables: PORT_80_TCP.
func (w *writer) ports() (list []unitfile.Text) {
	for _, flag := range w.Prepare {
		name, address, ok := strings.Cut(strings.TrimPrefix(flag, "--port="), ":")
		if !ok || !strings.HasPrefix(flag, "--port=") {
			list = append(list, w.text(flag))
			continue
		}
		list = append(list, w.text("--port="+name+":")+w.variable("PORT_"+name, address))
	}
	return list
}

// operands are the images, each with its flags and arguments: the first has the variables IMAGE,
// MEMORY and CPU, the second IMAGE_2 and so on.
func (w *writer) operands() (list []unitfile.Text) {
	for i, app := range w.Apps {
		suffix := ""
		if i > 0 {
			list = append(list, "---")
			suffix = "_" + strconv.Itoa(i+1)
		}
		list = append(list, w.variable("IMAGE"+suffix, app.Image))
		for _, flag := range app.Flags {
			name, value, _ := strings.Cut(flag, "=")
			if name == "--memory" || name == "--cpu" {
				list = append(list, w.text(name+"=")+w.variable(strings.TrimPrefix(name, "--")+suffix, value))
				continue
			}
			list = append(list, w.text(flag))
		}
		if len(app.Args) > 0 {
			list = append(list, "--")
			list = append(list, w.texts(app.Args)...)
		}
	}
	return list
}

// Port is a port of an image that is marked as socket activated.
type Port struct {
	Name     string
	Protocol string // tcp, udp, or unix
	Port     uint
	Count    uint
}

// listens are settings of sockets, by protocol.
var listens = map[string]string{"tcp": "ListenStream", "udp": "ListenDatagram", "unix": "ListenStream"}

// Socket is the text of NAME.socket, which listens for the ports: each where --port says, else at
// its own number on all addresses, a unix socket at /run/NAME/PORT.
func (p *Pod) Socket(ports []Port) ([]byte, error) {
	f := &unitfile.File{}
	f.Add("Unit", "Description", "Sockets of pod "+p.Name)
	for _, port := range ports {
		setting := listens[port.Protocol]
		if setting == "" {
			return nil, fmt.Errorf("port %s: systemd has no sockets for %s", port.Name, port.Protocol)
		}
		if port.Protocol == "unix" {
			text, err := unitfile.Path("/run/" + p.Name + "/" + port.Name)
			if err != nil {
				return nil, err
			}
			f.Add("Socket", setting, text)
			continue
		}
		ip, first, err := p.forwarded(port)
		if err != nil {
			return nil, err
		}
		for n := range max(port.Count, 1) {
			address := strconv.FormatUint(uint64(first+n), 10)
			if ip != "" {
				address = net.JoinHostPort(ip, address)
			}
			f.Add("Socket", setting, address)
		}
	}
	f.Add("Install", "WantedBy", "sockets.target")
	return f.Bytes()
}

// forwarded is where the host has a port, by --port=NAME:[IP:]PORT.
func (p *Pod) forwarded(port Port) (ip string, first uint, err error) {
	first = port.Port
	for _, flag := range p.Prepare {
		where, ok := strings.CutPrefix(flag, "--port="+port.Name+":")
		if !ok {
			continue
		}
		number := where
		if i := strings.LastIndexByte(where, ':'); i >= 0 {
			ip, number = strings.Trim(where[:i], "[]"), where[i+1:]
			if net.ParseIP(ip) == nil {
				return "", 0, fmt.Errorf("--port=%s:%s: %q is not an IP address", port.Name, where, ip)
			}
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("--port=%s:%s: %q is not a port", port.Name, where, number)
		}
		first = uint(n)
	}
	return ip, first, nil
}
