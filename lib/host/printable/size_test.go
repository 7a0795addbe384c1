package printable

import "testing"

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0B", 9: "9B", 1023: "1023B", 1024: "1.0KiB", 1536: "1.5KiB",
		10 << 10:       "10KiB",
		12<<20 + 1<<19: "12MiB", 1 << 30: "1.0GiB", 5 << 40: "5.0TiB", 1 << 53: "8192TiB"} {
		if got := Size(bytes); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
	}
}
