package stats

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"cpu.stat":       "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n",
		"memory.current": "4096\n", "memory.max": "max\n", "pids.current": "3\n",
		"memory.events": "low 0\noom 2\noom_kill 1\n",
		"io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=5 wbytes=0 rios=1 " +
			"wios=0 dbytes=0 dios=0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u, err := usage(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		got  *uint64
		want uint64
	}{"cpu": {u.CPU, 1500000}, "memory": {u.Memory, 4096}, "tasks": {u.Tasks, 3}, "oom": {u.OOMKills, 1},
		"read": {u.Read, 15}, "written": {u.Written, 20}} {
		if c.got == nil || *c.got != c.want {
			t.Errorf("%s: %v, want %d", name, c.got, c.want)
		}
	}
	if u.MemoryMax != nil || u.MemoryPeak != nil {
		t.Errorf("a limit %v, a peak %v: there are none", u.MemoryMax, u.MemoryPeak)
	}
	if err := os.WriteFile(filepath.Join(dir, "pids.current"), []byte("many\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := usage(dir); err == nil {
		t.Error("want an error for a number that is none")
	}
	if _, err := usage(filepath.Join(dir, "absent")); !os.IsNotExist(err) {
		t.Errorf("no cgroup: %v", err)
	}
}
