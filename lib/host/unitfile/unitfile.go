// Package unitfile writes systemd unit files whose values come from images and command lines. A
// unit file is a program, so every such value passes one of the functions here; each gives text
// that systemd reads back as the same bytes, or an error. The rules are those of systemd.syntax(7),
// systemd.service(5) "Command lines" and systemd.unit(5) "Specifiers".
package unitfile

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-systemd/v22/unit"
)

// maxLine is shorter than systemd's LONG_LINE_MAX, over which a file is refused as a whole.
const maxLine = 1<<20 - 4096

// File is a unit file in the making.
type File struct {
	options []*unit.UnitOption
}

// Add appends a line. The value must be a constant of the program or come from a function of this
// package.
func (f *File) Add(section, name, value string) {
	f.options = append(f.options, unit.NewUnitOption(section, name, value))
}

// Bytes is the file's text. It refuses a value that would not stay on its line.
func (f *File) Bytes() ([]byte, error) {
	for _, o := range f.options {
		if strings.ContainsAny(o.Value, "\n\r\x00") || strings.HasSuffix(o.Value, `\`) {
			return nil, fmt.Errorf("%s= in [%s]: the value does not fit on a line", o.Name, o.Section)
		}
		if len(o.Value) > maxLine {
			return nil, fmt.Errorf("%s= in [%s]: longer than %d bytes, the most that systemd reads", o.Name, o.Section, maxLine)
		}
	}
	return io.ReadAll(unit.Serialize(f.options))
}

// Exec is the value of an ExecStart= line that runs argv. The program is an absolute path; systemd
// refuses one with quotes, backslashes or control characters in it. Arguments may hold any bytes
// but NUL.
func Exec(argv []string) (string, error) {
	if len(argv) == 0 {
		return "", errors.New("nothing to execute")
	}
	program, err := Path(argv[0])
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(program, "\"'\\") {
		return "", fmt.Errorf("program %q: systemd runs no program with quotes or backslashes in its path", argv[0])
	}
	words := []string{`:"` + program + `"`} // ':' switches off the expansion of $VARIABLES
	for _, arg := range argv[1:] {
		word, err := quote(arg)
		if err != nil {
			return "", fmt.Errorf("argument %q: %w", shorten(arg), err)
		}
		words = append(words, word)
	}
	return strings.Join(words, " "), nil
}

// Environment is the value of an Environment= line that sets one variable. systemd drops variables
// whose name is not of letters, digits and underscores, or whose value is not UTF-8; here that is
// an error.
func Environment(name, value string) (string, error) {
	if !validVariable(name) {
		return "", fmt.Errorf("environment variable %q: systemd passes on only names of letters, digits and _", shorten(name))
	}
	if !utf8.ValidString(value) {
		return "", fmt.Errorf("environment variable %s: its value is not UTF-8, and systemd would drop it", name)
	}
	word, err := quote(name + "=" + value)
	if err != nil {
		return "", fmt.Errorf("environment variable %s: %w", name, err)
	}
	return word, nil
}

// validVariable reports whether systemd passes on an environment variable of this name.
func validVariable(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// Path is the value of a setting that takes one absolute path up to the end of the line, such as
// WorkingDirectory=.
func Path(path string) (string, error) {
	switch {
	case !strings.HasPrefix(path, "/"):
		return "", fmt.Errorf("path %q: not absolute", shorten(path))
	case !utf8.ValidString(path) || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", fmt.Errorf("path %q: systemd takes no control characters or invalid UTF-8 in a path", shorten(path))
	case strings.TrimSpace(path) != path || strings.HasSuffix(path, `\`):
		return "", fmt.Errorf("path %q: a unit file cannot hold a path that ends so", shorten(path))
	}
	return strings.ReplaceAll(path, "%", "%%"), nil
}

// quote gives one word of a command line or of an Environment= line. What is not printable is
// written as \xNN, also where systemd would take it as it is: unit files are shown on terminals.
func quote(s string) (string, error) {
	var b strings.Builder
	b.Grow(len(s) + 2)
	text := utf8.ValidString(s) // systemd refuses a line that is not; the bytes of other strings are written as \xNN
	b.WriteByte('"')
	hidden := 0 // bytes up to here are of a character that is not printable
	for i := range len(s) {
		if text && i >= hidden && s[i] > 0x7f {
			if r, size := utf8.DecodeRuneInString(s[i:]); utf8.RuneStart(s[i]) && !unicode.IsPrint(r) {
				hidden = i + size
			}
		}
		switch c := s[i]; {
		case c == 0:
			return "", errors.New("has a NUL byte, which no process can be given")
		case c == '%':
			b.WriteString("%%")
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f || c > 0x7f && !text || i < hidden:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String(), nil
}

// shorten keeps an error readable when an image holds something long.
func shorten(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
