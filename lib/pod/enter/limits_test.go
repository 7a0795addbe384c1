package enter

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLimits(t *testing.T) {
	own, err := limits(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for resource, limit := range own {
		var want unix.Rlimit
		if err := unix.Prlimit(0, resource, nil, &want); err != nil || limit != want {
			t.Errorf("resource %d: %v, the kernel says %v, %v", resource, limit, want, err)
		}
	}
	for _, text := range []string{"", "Max cpu time\n",
		"Max cpu time              x                    1   seconds\n"} {
		if _, err := parseLimits(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
