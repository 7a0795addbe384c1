package unitfile

import (
	"strings"
	"testing"
)

func TestExec(t *testing.T) {
	for _, c := range []struct {
		argv []string
		want string
	}{
		{[]string{"/bin/true"}, `:"/bin/true"`},
		{[]string{"/a b/%c", "%n", "$HOME", `a"b\c`, "", "x\ny", "\x01\x7f"}, `:"/a b/%%c" "%%n" "$HOME" "a\"b\\c" "" "x\x0ay" "\x01\x7f"`},
		{[]string{"/x", "ü", "\xff\xc3"}, `:"/x" "ü" "\xff\xc3"`},
		{[]string{"/x", ";", "{", "'q'"}, `:"/x" ";" "{" "'q'"`},
	} {
		if got, err := Exec(c.argv); err != nil || got != c.want {
			t.Errorf("Exec(%q) = %s, %v; want %s", c.argv, got, err, c.want)
		}
	}
	for _, argv := range [][]string{nil, {""}, {"relative"}, {"/a\nb"}, {`/a"b`}, {`/a\`}, {`/a\b`}, {"/a "}, {"/a\xff"}, {"/x", "nul\x00"}} {
		if got, err := Exec(argv); err == nil {
			t.Errorf("Exec(%q) = %s, want an error", argv, got)
		}
	}
}

func TestEnvironment(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"A", "", `"A="`},
		{"A_1", "x y%n$z\n\"", `"A_1=x y%%n$z\x0a\""`},
	} {
		if got, err := Environment(c.name, c.value); err != nil || got != c.want {
			t.Errorf("Environment(%q, %q) = %s, %v; want %s", c.name, c.value, got, err, c.want)
		}
	}
	for _, v := range [][2]string{{"", "x"}, {"1A", "x"}, {"A.B", "x"}, {"A B", "x"}, {"A\n", "x"}, {"A", "\xff"}, {"A", "a\x00"}} {
		if got, err := Environment(v[0], v[1]); err == nil {
			t.Errorf("Environment(%q) = %s, want an error", v, got)
		}
	}
}

func TestBytesRefusesASecondLine(t *testing.T) {
	for _, value := range []string{"a\nExecStartPre=/bin/evil", "a\r", "a\x00", `a\`, strings.Repeat("x", 2<<20)} {
		f := &File{}
		f.Add("Service", "Description", value)
		if text, err := f.Bytes(); err == nil {
			t.Errorf("value %.20q: %.60q, want an error", value, text)
		}
	}
}

// Whatever an image holds, a value stays a single line of printable text that is UTF-8.
func FuzzExec(f *testing.F) {
	for _, s := range []string{"", "a b", "%n", "$x", "\"", "\\", "\n", "\x00", "ü", "\xff", "'", ";", "a\\\n"} {
		f.Add("/bin/x", s)
	}
	f.Fuzz(func(t *testing.T, program, arg string) {
		line, err := Exec([]string{program, arg})
		if err != nil {
			return
		}
		file := &File{}
		file.Add("Service", "ExecStart", line)
		text, err := file.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n > 2 {
			t.Errorf("%q and %q: %d lines: %s", program, arg, n, text)
		}
		if got := unquote(t, line); got != arg {
			t.Errorf("%q came back as %q", arg, got)
		}
	})
}

// unquote reads the last word of a line as systemd.syntax(7) and systemd.unit(5) say.
func unquote(t *testing.T, line string) string {
	t.Helper()
	word := line[strings.Index(line, `" "`)+3 : len(line)-1]
	var out []byte
	for i := 0; i < len(word); i++ {
		switch {
		case word[i] == '%':
			i++
			if word[i] != '%' {
				t.Errorf("a specifier in %s", line)
			}
			out = append(out, '%')
		case word[i] == '"':
			t.Errorf("a bare quote in %s", line)
		case word[i] == '\\' && word[i+1] == 'x':
			out = append(out, hex(word[i+2])<<4|hex(word[i+3]))
			i += 3
		case word[i] == '\\':
			i++
			out = append(out, word[i])
		default:
			out = append(out, word[i])
		}
	}
	return string(out)
}

func hex(c byte) byte { return byte(strings.IndexByte("0123456789abcdef", c)) }
