package quadlet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Setting is a line of a unit file.
type Setting struct{ Section, Name, Value string }

// file is a Quadlet file with its drop-ins, in the order in which they are read.
type file struct {
	path     string // absolute
	name     string // without its directory and extension: web, or web@1
	kind     string // container, pod, volume, network, image
	settings []Setting
}

// read reads a Quadlet file, and its drop-ins as systemd does: those of container.d, of
// name-.container.d
// for each prefix of a name with dashes, of the template's directory, and of its own. Of those with
// the same name, the one of the most special directory counts.
func read(path string) (*file, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	base := filepath.Base(path)
	f := &file{path: path, kind: strings.TrimPrefix(filepath.Ext(base), ".")}
	f.name = strings.TrimSuffix(base, "."+f.kind)
	if err := f.add(path); err != nil {
		return nil, err
	}
	dropIns := map[string]string{}
	for _, dir := range f.dropInDirs() {
		found, err := os.ReadDir(filepath.Join(filepath.Dir(path), dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range found {
			if strings.HasSuffix(e.Name(), ".conf") {
				dropIns[e.Name()] = filepath.Join(filepath.Dir(path), dir, e.Name())
			}
		}
	}
	names := make([]string, 0, len(dropIns))
	for name := range dropIns {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := f.add(dropIns[name]); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// dropInDirs are the names of the directories of drop-ins, the most general first.
func (f *file) dropInDirs() []string {
	dirs := []string{f.kind + ".d"}
	prefix, _, template := strings.Cut(f.name, "@")
	for i := range len(prefix) {
		if prefix[i] == '-' {
			dirs = append(dirs, prefix[:i+1]+"."+f.kind+".d")
		}
	}
	if template && !strings.HasSuffix(f.name, "@") {
		dirs = append(dirs, prefix+"@."+f.kind+".d")
	}
	return append(dirs, f.name+"."+f.kind+".d")
}

// add reads the settings of one file (systemd.syntax(7)).
func (f *file) add(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	section, line, begun := "", "", 0
	for i, part := range append(strings.Split(string(text), "\n"), "") {
		trimmed := strings.TrimSpace(part)
		if strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";") || trimmed == "" && line == "" {
			continue // a comment in a continued line is left out, too
		}
		if line == "" {
			begun = i + 1
		}
		if rest, more := strings.CutSuffix(strings.TrimRight(part, "\r"), `\`); more {
			line += rest + " "
			continue
		}
		line = strings.TrimSpace(line + part)
		key, value, ok := strings.Cut(line, "=")
		switch {
		case line == "":
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			section = line[1 : len(line)-1]
		case !ok || section == "":
			return fmt.Errorf("%s:%d: %q: neither [SECTION] nor KEY=VALUE in a section", path, begun, line)
		default:
			f.settings = append(f.settings, Setting{section, strings.TrimSpace(key), strings.TrimSpace(value)})
		}
		line = ""
	}
	return nil
}

// of are the settings of a section; an empty value takes back those of its key before it.
func (f *file) of(section string) (list []Setting) {
	for _, s := range f.settings {
		switch {
		case s.Section != section:
		case s.Value == "":
			list = slices.DeleteFunc(list, func(old Setting) bool { return old.Name == s.Name })
		default:
			list = append(list, s)
		}
	}
	return list
}

// value is the last value of a key, "" if there is none.
func (f *file) value(section, key string) (value string) {
	for _, s := range f.of(section) {
		if s.Name == key {
			value = s.Value
		}
	}
	return value
}

// sibling reads the file of that name beside this one.
func (f *file) sibling(name string) (*file, error) {
	if strings.ContainsAny(name, "/%$") {
		return nil, fmt.Errorf("%q: not the name of a file in the same directory", name)
	}
	return read(filepath.Join(filepath.Dir(f.path), name))
}

// words splits a value as systemd splits a command line: at white space outside of quotes, which
// are removed, with C's escapes. Specifiers and variables stay.
func words(s string) (list []string, err error) {
	var word strings.Builder
	in, quote := false, byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\':
			text, n, err := unescape(s[i:])
			if err != nil {
				return nil, err
			}
			word.WriteString(text)
			in, i = true, i+n-1
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			in, quote = true, c
		case quote == 0 && (c == ' ' || c == '\t'):
			if in {
				list = append(list, word.String())
			}
			in = false
			word.Reset()
		default:
			in = true
			word.WriteByte(c)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("%s: a quote is not closed", s)
	}
	if in {
		list = append(list, word.String())
	}
	return list, nil
}

// simpleEscapes are those of one character (systemd.syntax(7)).
var simpleEscapes = map[byte]string{'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
	'\\': `\`, '"': `"`, '\'': "'", 's': " "}

// unescape reads the escape at the start of s: the text that it stands for, and its length.
func unescape(s string) (text string, n int, err error) {
	if len(s) < 2 {
		return "", 0, errors.New(`a \ at the end`)
	}
	if text, ok := simpleEscapes[s[1]]; ok {
		return text, 2, nil
	}
	digits, base, verb := 3, 1, "%o" // \123
	switch s[1] {
	case 'x':
		digits, base, verb = 2, 2, "%x"
	case 'u':
		digits, base, verb = 4, 2, "%x"
	case 'U':
		digits, base, verb = 8, 2, "%x"
	}
	var code uint32
	if len(s) < base+digits {
		return "", 0, fmt.Errorf("%s: not an escape", s)
	}
	if found, err := fmt.Sscanf(s[base:base+digits], verb, &code); err != nil || found != 1 || code == 0 {
		return "", 0, fmt.Errorf("%s: not an escape", s[:base+digits])
	}
	if s[1] == 'u' || s[1] == 'U' {
		return string(rune(code)), base + digits, nil
	}
	return string([]byte{byte(code)}), base + digits, nil
}
