package launcher

import (
	"os"
	"slices"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/stage1/init/pid1"
	"golang.org/x/sys/unix"
)

// PID 1 is asked once, however many ask; only the second ^C, or SIGTERM, kills it.
func TestCarry(t *testing.T) {
	for _, c := range []struct {
		signals []os.Signal
		kills   int
	}{
		{[]os.Signal{unix.SIGTERM}, 0},
		{[]os.Signal{unix.SIGTERM, pid1.StopSignal, pid1.StopSignal + 1}, 0},
		{[]os.Signal{pid1.StopSignal + 1, unix.SIGTERM}, 0},
		{[]os.Signal{unix.SIGINT, unix.SIGINT}, 1},
		{[]os.Signal{pid1.StopSignal, unix.SIGTERM, unix.SIGHUP}, 1},
	} {
		own, theirs, err := controlPair()
		if err != nil {
			t.Fatal(err)
		}
		signals := make(chan os.Signal, len(c.signals))
		for _, s := range c.signals {
			signals <- s
		}
		close(signals)
		kills := 0
		carry(signals, own, func() { kills++ })
		own.Close()
		message := make([]byte, 64)
		n, err := theirs.Read(message)
		if string(message[:n]) != pid1.AskToStop || err != nil || kills != c.kills {
			t.Errorf("%v: %q, %v, killed %d times", c.signals, message[:n], err, kills)
		}
		if n, _ := theirs.Read(message); n > 0 {
			t.Errorf("%v: asked twice: %q", c.signals, message[:n])
		}
		theirs.Close()
	}
}

func TestParse(t *testing.T) {
	got, err := parse([]string{"3", "-1", "7", "memory", "cpu"})
	if err != nil || got.group != 3 || got.notify != -1 || got.master != 7 ||
		!slices.Equal(got.controllers, []string{"memory", "cpu"}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, args := range [][]string{nil, {"1", "2"}, {"x", "1", "2"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
