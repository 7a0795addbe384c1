package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Config is one network's configuration.
type Config struct {
	Name string
	Type string // of its first plugin
	List []byte // CNI network configuration list, JSON; a file with a single plugin is made into one
	File string // where it was read, "" for a built-in network
	twin string // a second file of that name in the same directory
}

// maxConfig bounds a configuration file.
const maxConfig = 1 << 20

// builtin are the networks of every host, by rkt's names and with rkt's subnets. CNI 0.4.0 is
// spoken by every plugin of 2019 and later, and is the first version with CHECK.
var builtin = []Config{
	{Name: Default, Type: "ptp", List: []byte(`{"cniVersion":"0.4.0","name":"default","plugins":[{"type":"ptp",` +
		`"ipMasq":true,"ipam":{"type":"host-local","subnet":"172.16.28.0/24","routes":[{"dst":"0.0.0.0/0"}]}}]}`)},
	{Name: restricted, Type: "ptp", List: []byte(`{"cniVersion":"0.4.0","name":"default-restricted",` +
		`"plugins":[{"type":"ptp","ipam":{"type":"host-local","subnet":"172.31.0.0/16"}}]}`)},
}

// Load reads the networks of the net.d directories dirs, of which an earlier one overrides a later
// one by a network's name. They are in the order of their files' names, with the built-in ones
// last. A directory that is not there is empty.
func Load(dirs ...string) ([]Config, error) {
	var all []Config
	for _, dir := range dirs {
		layer, err := loadDir(dir)
		if err != nil {
			return nil, err
		}
		all = override(all, layer)
	}
	slices.SortStableFunc(all, func(a, b Config) int {
		return strings.Compare(filepath.Base(a.File), filepath.Base(b.File))
	})
	return override(all, builtin), nil
}

// override adds those of lower whose names are not in upper.
func override(upper, lower []Config) []Config {
	for _, c := range lower {
		if find(upper, c.Name) == nil {
			upper = append(upper, c)
		}
	}
	return upper
}

func find(configs []Config, name string) *Config {
	for i := range configs {
		if configs[i].Name == name {
			return &configs[i]
		}
	}
	return nil
}

func loadDir(dir string) ([]Config, error) {
	entries, err := os.ReadDir(dir) // in lexicographic order
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var layer []Config
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); e.IsDir() || ext != ".conf" && ext != ".conflist" && ext != ".json" {
			continue
		}
		file := filepath.Join(dir, e.Name())
		info, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() || info.Size() > maxConfig {
			return nil, fmt.Errorf("%s: not a file of at most %d bytes", file, maxConfig)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		config, err := parseConfig(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		config.File = file
		if twin := find(layer, config.Name); twin != nil {
			twin.twin = file
			continue
		}
		layer = append(layer, *config)
	}
	return layer, nil
}

// parseConfig takes a list of plugins, or rkt's form of one plugin.
func parseConfig(data []byte) (*Config, error) {
	var object map[string]json.RawMessage
	if err := unmarshal(data, &object); err != nil {
		return nil, err
	}
	var head struct {
		Name       string            `json:"name"`
		Type       string            `json:"type"`
		CNIVersion string            `json:"cniVersion"`
		Plugins    []json.RawMessage `json:"plugins"`
	}
	if err := unmarshal(data, &head); err != nil {
		return nil, err
	}
	if head.Name == "" {
		return nil, errors.New(`no "name"`)
	}
	if !validName(head.Name) {
		return nil, fmt.Errorf("%q is not a network's name", head.Name)
	}
	switch head.Name {
	case Host, None, All:
		return nil, fmt.Errorf("a network can't be named %q: --net=%s means something else", head.Name, head.Name)
	}
	if _, list := object["plugins"]; list {
		if len(head.Plugins) == 0 {
			return nil, errors.New(`no plugin in "plugins"`)
		}
		var first string
		for i, p := range head.Plugins {
			var plugin struct {
				Type string `json:"type"`
			}
			if err := unmarshal(p, &plugin); err != nil {
				return nil, fmt.Errorf("plugin %d: %w", i+1, err)
			}
			if err := validType(plugin.Type); err != nil {
				return nil, fmt.Errorf("plugin %d: %w", i+1, err)
			}
			if i == 0 {
				first = plugin.Type
			}
		}
		return &Config{Name: head.Name, Type: first, List: data}, nil
	}
	if err := validType(head.Type); err != nil {
		return nil, err
	}
	list := map[string]any{"name": head.Name, "plugins": []any{object}}
	if head.CNIVersion != "" {
		list["cniVersion"] = head.CNIVersion
	}
	data, err := json.Marshal(list)
	return &Config{Name: head.Name, Type: head.Type, List: data}, err
}

// validType keeps a plugin's type, which is the name of a program, inside of the plugin
// directories.
func validType(t string) error {
	if t == "" {
		return errors.New(`no "type"`)
	}
	if strings.Contains(t, "/") || strings.ContainsFunc(t, unprintable) || t == "." || t == ".." {
		return fmt.Errorf("%q is not a plugin's type", t)
	}
	return nil
}

// unmarshal names the line of a syntax error.
func unmarshal(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		line := 1 + bytes.Count(data[:min(int(syntax.Offset), len(data))], []byte("\n"))
		return fmt.Errorf("line %d: %w", line, err)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%q is a JSON %s, not a %s", wrong.Field, wrong.Value, wrong.Type.Kind())
	}
	return err
}

// Choice is a network that a pod joins.
type Choice struct {
	Config
	Args    string // CNI_ARGS
	Aliases []string
}

// Label names the network in an error, with its file.
func (c Choice) Label() string {
	if c.File == "" {
		return "network " + c.Name
	}
	return "network " + c.Name + " (" + c.File + ")"
}

// Resolve finds the networks that a Selection means, in its order; those of all follow in the order
// of configs. A request is by name; where no network has the name, the one that has it as its type
// is meant: the only one among the files, else a built-in one.
func (s Selection) Resolve(configs []Config) ([]Choice, error) {
	if len(s) == 0 {
		s = Selection{{Name: Default}}
	}
	if s.Host() || s.None() {
		return nil, nil
	}
	var chosen []Choice
	for _, r := range s {
		if r.Name == All {
			continue
		}
		config, err := pick(configs, r.Name)
		if err != nil {
			return nil, err
		}
		for _, c := range chosen {
			if c.Name == config.Name {
				return nil, fmt.Errorf("network %q: chosen twice, the second time as %q", c.Name, r.Name)
			}
		}
		chosen = append(chosen, Choice{*config, r.Args, r.Aliases})
	}
	if s.has(All) {
		for _, config := range configs {
			if !slices.ContainsFunc(chosen, func(c Choice) bool { return c.Name == config.Name }) {
				chosen = append(chosen, Choice{Config: config})
			}
		}
	}
	for _, c := range chosen {
		if c.twin != "" {
			return nil, fmt.Errorf("network %q: both %s and %s have this name", c.Name, c.File, c.twin)
		}
	}
	return chosen, nil
}

func pick(configs []Config, name string) (*Config, error) {
	if config := find(configs, name); config != nil {
		return config, nil
	}
	var files, names []string
	var found *Config
	for i, c := range configs {
		names = append(names, c.Name)
		if c.Type != name {
			continue
		}
		if c.File != "" {
			files = append(files, c.File)
		}
		if found == nil { // files come before built-in networks, and default before default-restricted
			found = &configs[i]
		}
	}
	if len(files) > 1 {
		return nil, fmt.Errorf("network %q: none has this name, and several have this type: %s", name,
			strings.Join(files, ", "))
	}
	if found == nil {
		return nil, fmt.Errorf("failed to setup network %q: no such network (there are %s)", name,
			strings.Join(names, ", "))
	}
	return found, nil
}
