package printable

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                            "",
		"docker.io/library/redis:7":   "docker.io/library/redis:7",
		"größer, 日本語 😀 e\u0301":       "größer, 日本語 😀 e\u0301",
		"two\nlines\tand a tab":       "two lines and a tab",
		"\x1b]0;title\a\x1b[2J":       "?]0;title??[2J",
		"back\bspace\rreturn\x7f\x00": "back?space?return??",
		"C1 \u009b31m \u0085":         "C1 ?31m ?",
		"bytes \x9b31m \xff":          "bytes ?31m ?",
		"bidi \u202egnp.exe\u2066":    "bidi ?gnp.exe?",
		"lines \u2028\u2029":          "lines ??",
		"private \ue000 \U000f0000":   "private ? ?",
	} {
		if got := Line(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":"größer","b":[1,2]}`:           `{"a":"größer","b":[1,2]}`,
		"[\r\n1\r]":                          "[\n1]",
		"{\n\t\"a\": \"b\"\n}\n":             "{\n\t\"a\": \"b\"\n}\n",
		"\"\u009b31m\x7f\u202e\u2028\"":      `"\u009b31m\u007f\u202e\u2028"`,
		"\"\U000e0001 \U000f0000 \xff\x9b\"": `"\udb40\udc01 \udb80\udc00 \ufffd\ufffd"`,
		`"\u001b[31m"`:                       `"\u001b[31m"`,
	} {
		if got := string(JSON([]byte(in))); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// Whatever comes in, no byte goes out that a terminal obeys, and JSON keeps its value.
func FuzzPrintable(f *testing.F) {
	f.Add("\x1b[31m\a\n\u009b\u202e\xff\u2028\U000f0000")
	f.Fuzz(func(t *testing.T, s string) {
		line := Line(s)
		if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q: got %q", s, line)
		}
		if again := Line(line); again != line {
			t.Errorf("%q: then %q, then %q", s, line, again)
		}
		text, err := json.Marshal([]string{s})
		if err != nil {
			t.Fatal(err)
		}
		safe := JSON(text)
		var before, after any
		if json.Unmarshal(text, &before) != nil || json.Unmarshal(safe, &after) != nil ||
			!reflect.DeepEqual(before, after) {
			t.Errorf("%q: got %s", text, safe)
		}
		if strings.ContainsFunc(string(safe), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q: got %q", s, safe)
		}
	})
}
