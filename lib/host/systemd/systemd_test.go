package systemd

import "testing"

func TestUnitOf(t *testing.T) {
	for cgroups, want := range map[string]string{
		"0::/machine.slice/redis.service\n":                                  "redis.service",
		"0::/machine.slice/redis.service/payload\n":                          "redis.service",
		"0::/user.slice/user-0.slice/session-1.scope\n":                      "session-1.scope",
		"0::/user.slice/user-0.slice/user@0.service/app.slice/run-1.scope\n": "run-1.scope",
		"0::/\n": "",
		"9:name=systemd:/system.slice/a.service\n4:memory:/x/b.service\n0::/c\n": "a.service",
		"4:memory:/x/b.service\n0::/\n":                                          "",
		"":                                                                       "",
		"garbage\n":                                                              "",
	} {
		if got := unitOf(cgroups); got != want {
			t.Errorf("%q: %q, want %q", cgroups, got, want)
		}
	}
}
