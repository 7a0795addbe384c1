package activation

import (
	"slices"
	"testing"
)

func TestNames(t *testing.T) {
	for _, test := range []struct {
		fds, pid, names string
		want            []string
	}{
		{"2", "7", "a:b", []string{"a", "b"}},
		{"2", "7", "", []string{"", ""}},
		{"1", "7", "a:b:c", []string{"a"}},
		{"1", "8", "a", nil},
		{"1", "", "a", nil},
		{"0", "7", "", nil},
		{"-1", "7", "", nil},
		{"one", "7", "", nil},
		{"", "7", "", nil},
		{"9223372036854775807", "7", "", nil},
	} {
		env := map[string]string{"LISTEN_FDS": test.fds, "LISTEN_PID": test.pid, "LISTEN_FDNAMES": test.names}
		if got := Names(func(name string) string { return env[name] }, 7); !slices.Equal(got, test.want) {
			t.Errorf("%v: %q, want %q", env, got, test.want)
		}
	}
}
