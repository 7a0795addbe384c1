package prepare

import "testing"

func TestParseSize(t *testing.T) {
	for text, want := range map[string]uint64{"64m": 64 << 20, "1G": 1 << 30, "5": 5, "3kb": 3 << 10, "2MiB": 2 << 20,
		"7b": 7, "": 0, "m": 0, "-1": 0, "1.5g": 0, "0": 0, "1t": 0, "1i": 0} {
		if n, err := ParseSize(text); n != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d, %v; want %d", text, n, err, want)
		}
	}
}
