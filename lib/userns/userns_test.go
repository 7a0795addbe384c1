package userns

import (
	"math"
	"testing"
)

func TestParse(t *testing.T) {
	for s, base := range map[string]uint32{"524288:65536\n": 524288, "524288:65536": 524288, "1879048192:65536": 0, "1878982656:65536": 1878982656,
		"": 0, "0:65536": 0, "65536:65536": 0, "524289:65536": 0, "524288:65537": 0, "524288": 0, "-524288:65536": 0, "524288:65536:1": 0,
		"4294967296:65536": 0, "524288:65536\n\n": 0, "0x80000:65536": 0} {
		got, err := Parse(s)
		if (err == nil) != (base != 0) || got.Base != base {
			t.Errorf("%q: %d, %v; want %d", s, got.Base, err, base)
		}
	}
}

// Every random number is a range that Parse takes, and none is of the host's own users.
func TestRandom(t *testing.T) {
	for _, n := range []uint32{0, 1, lastRange - firstRange, lastRange - firstRange + 1, math.MaxInt32, math.MaxUint32} {
		r := Random(n)
		back, err := Parse(r.String())
		if err != nil || back != r {
			t.Errorf("%d: %v, read back as %v, %v", n, r, back, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("524288:65536\n")
	f.Add("::")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := Parse(s); err == nil && (r.Base < 1<<19 || r.Base > math.MaxInt32) {
			t.Errorf("%q: %v", s, r)
		}
	})
}
