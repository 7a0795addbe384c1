package unitfile

import (
	"strings"
	"testing"
)

// literals are words that systemd is to read back as they are.
func literals(words ...string) (list []Text) {
	for _, word := range words {
		list = append(list, Literal(word))
	}
	return list
}

func TestExec(t *testing.T) {
	for _, c := range []struct {
		program string
		args    []Text
		want    string
	}{
		{"/bin/true", nil, `/bin/true`},
		{"/a b/%c", literals("%n", "$HOME", `a"b\c`, "", "x\ny", "\x01\x7f"),
			`"/a b/%%c" %%n $$HOME "a\"b\\c" "" "x\x0ay" "\x01\x7f"`},
		{"/x", literals("ü", "\xff\xc3"), `/x "ü" "\xff\xc3"`},
		{"/x", literals(";", "{", "'q'", "#", "~"), `/x ";" { "'q'" "#" "~"`},
		{"/x", []Text{Literal("--port=80-tcp:") + Variable("PORT"), "%i", "a b %i"},
			`/x --port=80-tcp:${PORT} %i "a b %i"`},
	} {
		if got, err := Exec(c.program, c.args...); err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("Exec(%q, %q) = %s, %v; want %s", c.program, c.args, got, err, c.want)
		}
	}
	for _, argv := range [][]string{{""}, {"relative"}, {"/a\nb"}, {`/a"b`}, {`/a\`}, {`/a\b`}, {"/a "}, {"/a\xff"},
		{"/x", "nul\x00"}} {
		if got, err := Exec(argv[0], literals(argv[1:]...)...); err == nil {
			t.Errorf("Exec(%q) = %s, want an error", argv, got)
		}
	}
}

func TestEnvironment(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"A", "", `A=`},
		{"A_1", "x y%n$z\n\"", `"A_1=x y%%n$z\x0a\""`},
		{"B", "docker://redis:7", `B=docker://redis:7`},
	} {
		if got, err := Environment(c.name, Literal(c.value)); err != nil || got != c.want {
			t.Errorf("Environment(%q, %q) = %s, %v; want %s", c.name, c.value, got, err, c.want)
		}
	}
	if got, err := Environment("A", "x%i"); err != nil || got != "A=x%i" {
		t.Errorf("a specifier became %s, %v", got, err)
	}
	for _, v := range []struct {
		name  string
		value Text
	}{{"", "x"}, {"1A", "x"}, {"A.B", "x"}, {"A B", "x"}, {"A\n", "x"}, {"A", "\xff"}, {"A", "a\x00"}, {"A", "${B}"},
		{"A", "$$$B"}} {
		if got, err := Environment(v.name, v.value); err == nil {
			t.Errorf("Environment(%q) = %s, want an error", v, got)
		}
	}
}

// A value can go on over several lines, and none of them can end there.
func TestContinued(t *testing.T) {
	f := &File{}
	f.Add("Service", "ExecStart", "/x --a", "--b", "c")
	text, err := f.Bytes()
	if want := "[Service]\nExecStart=/x --a \\\n    --b \\\n    c\n"; err != nil || string(text) != want {
		t.Errorf("%v\n%s", err, text)
	}
	for _, more := range []string{"a\nb", `a\`} {
		f := &File{}
		f.Add("Service", "ExecStart", "/x", more)
		if text, err := f.Bytes(); err == nil {
			t.Errorf("%q: %s", more, text)
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
		words, err := Exec(program, Literal(arg))
		if err != nil {
			return
		}
		line := strings.Join(words, " ")
		file := &File{}
		file.Add("Service", "ExecStart", line)
		text, err := file.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n > 2 {
			t.Errorf("%q and %q: %d lines: %s", program, arg, n, text)
		}
		if got := unquote(t, words[1]); got != arg {
			t.Errorf("%q came back as %q", arg, got)
		}
	})
}

// unquote reads a word as systemd.syntax(7), systemd.unit(5) and systemd.service(5) say.
func unquote(t *testing.T, word string) string {
	t.Helper()
	inner, quoted := strings.CutPrefix(word, `"`)
	inner, closed := strings.CutSuffix(inner, `"`)
	if quoted != closed || !quoted && (word == "" || strings.ContainsAny(word, " \t\"'\\#;")) {
		t.Errorf("not one word: %s", word)
	}
	var out []byte
	for i := 0; i < len(inner); i++ {
		switch {
		case inner[i] == '%' || inner[i] == '$':
			i++
			if i == len(inner) || inner[i] != inner[i-1] {
				t.Fatalf("a specifier or a variable in %s", word)
			}
			out = append(out, inner[i])
		case inner[i] == '"':
			t.Errorf("a bare quote in %s", word)
		case inner[i] == '\\' && inner[i+1] == 'x':
			out = append(out, hex(inner[i+2])<<4|hex(inner[i+3]))
			i += 3
		case inner[i] == '\\':
			i++
			out = append(out, inner[i])
		default:
			out = append(out, inner[i])
		}
	}
	return string(out)
}

func hex(c byte) byte { return byte(strings.IndexByte("0123456789abcdef", c)) }
