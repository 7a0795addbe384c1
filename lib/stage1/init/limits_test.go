package initflavor

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
)

func TestLimitFiles(t *testing.T) {
	got := limitFiles("g", stage1.Resources{CPUWeight: 79, CPUMilli: 250, MemoryMax: 64 << 20, BlockBandwidth: 2000000,
		BlockIOPS: 100, TasksMax: 40}, "8:0")
	want := []plan.Limit{
		{Controller: "cpu", File: "g/cpu.weight", Text: "79"},
		{Controller: "cpu", File: "g/cpu.max", Text: "25000 100000"},
		{Controller: "memory", File: "g/memory.max", Text: "67108864"},
		{Controller: "pids", File: "g/pids.max", Text: "40"},
		{Controller: "io", File: "g/io.max", Text: "8:0 rbps=2000000 wbps=2000000"},
		{Controller: "io", File: "g/io.max", Text: "8:0 riops=100 wiops=100"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	// The kernel takes no quota of less than a millisecond; systemd makes the period longer then.
	for milli, want := range map[uint64]string{
		1: "1000 1000000", 5: "1000 200000", 10: "1000 100000", 2500: "250000 100000",
	} {
		if got := limitFiles("g", stage1.Resources{CPUMilli: milli}, ""); len(got) != 1 || got[0].Text != want {
			t.Errorf("%d: %+v", milli, got)
		}
	}
	if got := limitFiles("g", stage1.Resources{}, ""); got != nil {
		t.Errorf("no limit: %+v", got)
	}
}

// The limit of tasks that each pod has is none that somebody has asked for: it costs no group of
// PID 1's own.
func TestIsAsked(t *testing.T) {
	for _, c := range []struct {
		limits stage1.PodLimits
		want   bool
	}{
		{stage1.PodLimits{}, false},
		{stage1.PodLimits{Pod: stage1.Resources{TasksMax: stage1.DefaultTasks}}, false},
		{stage1.PodLimits{Pod: stage1.Resources{TasksMax: 40}}, true},
		{stage1.PodLimits{Pod: stage1.Resources{MemoryMax: 1}}, true},
		{stage1.PodLimits{Apps: map[string]stage1.Resources{"a": {}}}, false},
		{stage1.PodLimits{Apps: map[string]stage1.Resources{"a": {CPUMilli: 1}}}, true},
	} {
		if got := isAsked(&c.limits); got != c.want {
			t.Errorf("%+v: %v", c.limits, got)
		}
	}
}

// A limit of a disk is of the whole disk, whatever lies on it.
func TestWholeDisk(t *testing.T) {
	sys := t.TempDir()
	for _, dir := range []string{
		"dev/block", "devices/sda/sda1", "devices/dm-0/slaves", "devices/md0/slaves/a", "devices/md0/slaves/b",
	} {
		if err := os.MkdirAll(filepath.Join(sys, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, text := range map[string]string{
		"sda/dev": "8:0\n", "sda/sda1/dev": "8:1\n", "sda/sda1/partition": "1\n",
	} {
		if err := os.WriteFile(filepath.Join(sys, "devices", file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"dev/block/8:0": "../../devices/sda", "dev/block/8:1": "../../devices/sda/sda1",
		"dev/block/253:0": "../../devices/dm-0", "dev/block/9:0": "../../devices/md0",
		"devices/dm-0/slaves/sda1": "../../sda/sda1",
	} {
		if err := os.Symlink(target, filepath.Join(sys, link)); err != nil {
			t.Fatal(err)
		}
	}
	for device, want := range map[string]string{"8:0": "8:0", "8:1": "8:0", "253:0": "8:0", "9:0": "9:0"} {
		if got, err := wholeDisk(sys, device); got != want || err != nil {
			t.Errorf("%s: %q, %v", device, got, err)
		}
	}
}
