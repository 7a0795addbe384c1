package cgroup

import (
	"slices"
	"testing"
)

func TestOwn(t *testing.T) {
	const (
		pure   = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
		inside = "30 23 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
		hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
			"40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	)
	for _, c := range []struct {
		groups, mounts string
		want           []string
	}{
		{"0::/a/b\n", pure, []string{"/sys/fs/cgroup/a/b"}},
		{"0::/docker/x/a\n", inside, []string{"/sys/fs/cgroup/a"}},
		{"9:name=systemd:/s\n4:memory:/m\n0::/\n", hybrid, []string{"/sys/fs/cgroup/systemd/s", "/sys/fs/cgroup/unified"}},
		{"4:memory:/m\n", hybrid, nil},
		{"0::/\n", "", nil},
		{"0::/../../elsewhere\n", pure, nil},
	} {
		if got := own(c.groups, c.mounts); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.groups, got, c.want)
		}
	}
}
