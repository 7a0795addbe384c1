package place

import (
	"math"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/stage1"
)

// The pod's init is given what its apps need, and not less than it needs itself.
func TestInitLimits(t *testing.T) {
	limits, options := InitLimits([]specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 5, Hard: 9000},
		{Type: "RLIMIT_AS", Soft: 5, Hard: 6}},
		[]specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 5, Hard: 8000}, {Type: "RLIMIT_RTPRIO", Hard: 7}})
	want := "--rlimit=RLIMIT_NOFILE=1024:9000 --rlimit=RLIMIT_NPROC=infinity:infinity --rlimit=RLIMIT_RTPRIO=0:7 " +
		"--rlimit=RLIMIT_SIGPENDING=infinity:infinity"
	if got := strings.Join(options, " "); got != want || len(limits) != len(stage1.Limits) {
		t.Errorf("%s\nwant %s; %d limits of %d", got, want, len(limits), len(stage1.Limits))
	}
	for _, l := range limits {
		if l.Type == "RLIMIT_AS" && l.Hard != math.MaxUint64 {
			t.Errorf("%+v", l)
		}
	}
}
