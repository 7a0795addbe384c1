// Package unitfile writes systemd unit files whose values come from images and command lines. A
// unit file is a program, so every such value passes one of the functions here; each gives text
// that systemd reads back as the same bytes, or an error. The rules are those of systemd.syntax(7),
// systemd.service(5) "Command lines" and systemd.unit(5) "Specifiers".
package unitfile

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-systemd/v22/unit"
)

// maxLine is shorter than systemd's LONG_LINE_MAX, over which a file is refused as a whole.
const maxLine = 1<<20 - 4096

// Text is a value in systemd's own language, in which % begins a specifier and $ a variable.
type Text string

// Literal is the text that systemd reads back as s, whatever that is.
func Literal(s string) Text {
	return Text(strings.NewReplacer("%", "%%", "$", "$$").Replace(s))
}

// Variable is the text for the value of an environment variable, which stays one word.
func Variable(name string) Text { return Text("${" + name + "}") }

// File is a unit file in the making.
type File struct {
	lines []line
}

// line is a setting whose value may be continued on further lines.
type line struct {
	section, name string
	value         []string
}

// Add appends a line. The value must be a constant of the program or come from a function of this
// package. What follows it are further lines of the same value.
func (f *File) Add(section, name, value string, more ...string) {
	f.lines = append(f.lines, line{section, name, append([]string{value}, more...)})
}

// Bytes is the file's text. It refuses a value that would not stay on its line.
func (f *File) Bytes() ([]byte, error) {
	var options []*unit.UnitOption
	for _, l := range f.lines {
		for _, value := range l.value {
			if strings.ContainsAny(value, "\n\r\x00") || strings.HasSuffix(value, `\`) {
				return nil, fmt.Errorf("%s= in [%s]: the value does not fit on a line", l.name, l.section)
			}
		}
		value := strings.Join(l.value, " \\\n    ")
		if len(value) > maxLine {
			return nil, fmt.Errorf("%s= in [%s]: longer than %d bytes, the most that systemd reads", l.name,
				l.section, maxLine)
		}
		options = append(options, unit.NewUnitOption(l.section, l.name, value))
	}
	return io.ReadAll(unit.Serialize(options))
}

// Exec gives the words of an ExecStart= line that runs argv. The program is an absolute path;
// systemd refuses one with quotes, backslashes or control characters in it. Arguments may hold any
// bytes but NUL.
func Exec(program string, args ...Text) ([]string, error) {
	word, err := Path(program)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(program, "\"'\\") {
		return nil, fmt.Errorf("program %q: systemd runs no program with quotes or backslashes in its path", program)
	}
	if strings.Trim(word, plain) != "" {
		word = `"` + word + `"`
	}
	words := []string{word}
	for _, arg := range args {
		word, err := quote(string(arg))
		if err != nil {
			return nil, fmt.Errorf("argument %q: %w", shorten(string(arg)), err)
		}
		words = append(words, word)
	}
	return words, nil
}

// Environment is the value of an Environment= line that sets one variable. systemd drops variables
// whose name is not of letters, digits and underscores, or whose value is not UTF-8; here that is
// an error, and so is a variable in the value: an Environment= line knows specifiers only.
func Environment(name string, value Text) (string, error) {
	if !validVariable(name) {
		return "", fmt.Errorf("environment variable %q: systemd passes on only names of letters, digits and _",
			shorten(name))
	}
	if !utf8.ValidString(string(value)) {
		return "", fmt.Errorf("environment variable %s: its value is not UTF-8, and systemd would drop it", name)
	}
	parts := strings.Split(string(value), "$$")
	if slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(part, "$") }) {
		return "", fmt.Errorf("environment variable %s: its value has a variable", name)
	}
	word, err := quote(name + "=" + strings.Join(parts, "$"))
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

// plain are the characters that a word may have without quotes.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,:/@%${}"

// quote gives one word of a command line or of an Environment= line, in quotes if it needs some.
// What is not printable is written as \xNN, also where systemd would take it as it is: unit files
// are shown on terminals.
func quote(s string) (string, error) {
	if s != "" && strings.Trim(s, plain) == "" {
		return s, nil
	}
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
