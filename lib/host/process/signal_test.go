package process

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]unix.Signal{"HUP": 1, "SIGHUP": 1, "sighup": 1, "usr1": 10, "9": 9, "64": 64,
		"RTMIN": 34, "RTMIN+3": 37, "SIGRTMAX-1": 63, "WINCH": unix.SIGWINCH} {
		if got, err := ParseSignal(s); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "65", "-1", "SIG", "NOSUCH", "RTMIN+31", "RTMAX-31", "RTMINx",
		"9x", "HUP,TERM"} {
		if got, err := ParseSignal(s); err == nil {
			t.Errorf("%q: %d", s, got)
		}
	}
}
