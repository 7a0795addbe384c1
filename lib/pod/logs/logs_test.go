package logs

import (
	"bytes"
	"testing"
)

// However the output of journalctl is cut into writes, the lines arrive and the cursor does not.
func TestCursor(t *testing.T) {
	for _, c := range []struct {
		text, out, at string
		silent        bool
	}{
		{"one\ntwo\n-- cursor: s=1;i=2\n", "one\ntwo\n", "s=1;i=2", false},
		{"one\n-- cursor: s=1\n", "", "s=1", true},
		{"-- cursor: forged\n-- cursor: s=3\n", "-- cursor: forged\n", "s=3", false},
		{"", "", "", false},
		{"one\n", "one\n", "", false},
	} {
		for size := 1; size < 8; size++ {
			var out bytes.Buffer
			w := &cursor{out: &out, silent: c.silent}
			for rest := []byte(c.text); len(rest) > 0; {
				n := min(size, len(rest))
				if _, err := w.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if at, err := w.end(); err != nil || at != c.at || out.String() != c.out {
				t.Errorf("%q by %d: %q, cursor %q, %v", c.text, size, out.String(), at, err)
			}
		}
	}
}

func TestSkipper(t *testing.T) {
	var out bytes.Buffer
	counted := &counter{out: &out}
	counted.Write([]byte("one\ntw"))
	s := &skipper{out: &out, n: counted.n}
	for _, part := range []string{"on", "e\ntwo\nth", "ree\n"} {
		if n, err := s.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if out.String() != "one\ntwo\nthree\n" {
		t.Errorf("%q", out.String())
	}
}

func TestCheck(t *testing.T) {
	for _, o := range []Options{{Lines: "x"}, {Lines: "-1"}, {Lines: "+5"}, {Output: "a b"}, {Output: "cat=1"}} {
		if o.Check() == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	for _, o := range []Options{{}, {Lines: "0"}, {Lines: "10", Output: "short-iso"}} {
		if err := o.Check(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
