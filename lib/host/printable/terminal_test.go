package printable

import (
	"strings"
	"testing"
)

// However the text is cut into writes, lines, tabs and colors pass, and nothing else that a
// terminal obeys.
func TestTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 "",
		"one\ntwo\n":                       "one\ntwo\n",
		"größer, 日本語\tx\n\n":               "größer, 日本語\tx\n\n",
		"\x1b[0;1;31mred\x1b[0m\n":         "\x1b[0;1;31mred\x1b[0m\n",
		"\x1b]0;title\a\x1b[2J\x1b[3;1H\n": "?]0;title??[2J?[3;1H\n",
		"\x1b[\n31m":                       "?[\n31m",
		"cr\r\nC1 \u009b2J \x9b bidi \u202etxt\n no end \a": "cr?\nC1 ?2J ? bidi ?txt\n no end ?",
	} {
		for size := 1; size < 7; size++ {
			var out strings.Builder
			w := NewTerminal(&out)
			for rest := in; rest != ""; {
				n := min(size, len(rest))
				if wrote, err := w.Write([]byte(rest[:n])); wrote != n || err != nil {
					t.Fatal(wrote, err)
				}
				rest = rest[n:]
			}
			if err := w.Close(); err != nil || out.String() != want {
				t.Errorf("%q in pieces of %d: %q, %v; want %q", in, size, out.String(), err, want)
			}
		}
	}
	var out strings.Builder
	w := NewTerminal(&out)
	w.Write(make([]byte, 2*maxLine))
	if out.Len() != 2*maxLine || len(w.rest) != 0 {
		t.Errorf("of a line of %d bytes without end %d are written", 2*maxLine, out.Len())
	}
}
