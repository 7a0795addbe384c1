package run

import (
	"reflect"
	"testing"
)

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

func TestParseMounts(t *testing.T) {
	got, err := parseMounts("# a comment\n\n/usr stage1/rootfs/usr none rbind,ro 0 0\n/a\\040b\\134 stage1/x\\011y none bind 0 0\n")
	want := []bind{{"/usr", "stage1/rootfs/usr", true, true}, {`/a b\`, "stage1/x\ty", false, false}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, line := range []string{"/usr", "/usr usr ext4 rw 0 0", "usr usr none bind 0 0", "/usr /usr none bind 0 0", "/usr ../usr none bind 0 0",
		`/usr stage1/\056\056/\056\056/usr none bind 0 0`} {
		if got, err := parseMounts(line); err == nil {
			t.Errorf("%q: %+v, want an error", line, got)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add("/usr stage1/rootfs/usr none rbind,ro 0 0\n")
	f.Add("/a\\040b\\ \\05 none bind 0 0")
	f.Fuzz(func(t *testing.T, text string) { parseMounts(text) })
}
