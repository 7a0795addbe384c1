package stage1

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rkt-toolkit/rkt/lib/host/seccomp"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

// hostile is an app with everything in its values that means something in a unit file.
var hostile = App{
	Name: "hostile", Exec: []string{"/bin/a b", "%n $HOME ${X} \"q\" 'r' \\ ; \n[Service]\nExecStartPre=/bin/evil", ""},
	UID: 1000, GID: 1000, SupplementaryGIDs: []uint32{4, 5}, WorkingDir: "/a %n b",
	Environment:  []Variable{{"A", "x\nExecStart=/bin/evil\n"}, {"B", "%H \"' \\"}, {"TERM", "dumb"}},
	Capabilities: DefaultCapabilities, StopSignal: "SIGQUIT",
}

func plain(name string) App {
	return App{Name: name, Exec: []string{"/bin/true"}, WorkingDir: "/", Capabilities: []string{}}
}

func TestConfig(t *testing.T) {
	odd := hostile
	odd.Name, odd.UID, odd.Notify, odd.ReadOnly, odd.AllPaths = "odd", 0, true, true, true
	odd.Environment = []Variable{{"FOO.BAR", "%n"}}
	odd.Stdout, odd.Stderr, odd.Capabilities = TTY, Null, []string{"CAP_KILL"}
	score := -7
	odd.Isolation = Isolation{Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 1, Hard: 2}},
		NoNewPrivileges: true, SELinuxContext: "a:b:c:d", AppArmorProfile: "profile", OOMScoreAdj: &score,
		Seccomp: seccomp.Calls{Retain: true, Names: []string{"execve", "read"}}}
	odd.PreStart, odd.Health = []string{"/pre", "\n"}, &Health{Exec: []string{"/check"}}
	denies := plain("denies")
	denies.Exec = append(denies.Exec, "\xff")
	denies.Seccomp = seccomp.Calls{Names: []string{"mkdir"}, Errno: "EXDEV"}
	for _, app := range []App{hostile, odd, denies} {
		config, err := app.Config()
		if err != nil {
			t.Fatal(err)
		}
		goldenJSON(t, app.Name+".json", config)
	}
	config, err := odd.Config()
	if err != nil {
		t.Fatal(err)
	}
	before, _ := json.Marshal(config)
	goldenJSON(t, "odd-final.json", Finish(config, Final{Hostname: "host", Umask: 0o27,
		Limits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_NOFILE", Soft: 3, Hard: 4}},
		Notify: "/run/rkt/notify/odd", Without: []string{"/proc"}, Environment: []string{"FOO.BAR=new", "A=b"}}))
	goldenJSON(t, "odd-terminal.json", Finish(config, Final{Terminal: true}))
	if after, _ := json.Marshal(config); !bytes.Equal(before, after) {
		t.Errorf("Finish changed what was prepared:\n%s\n%s", before, after)
	}
	for want, change := range map[string]func(*App){
		"nothing to execute": func(a *App) { a.Exec = nil },
		"is not UTF-8":       func(a *App) { a.Exec = []string{"/a"}; a.PreStart = []string{"/b", "\xff"} },
		"NUL byte":           func(a *App) { a.PreStart = []string{"/a\x00"} },
	} {
		app := plain("a")
		change(&app)
		if _, err := app.Config(); !testkit.Says(err, want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func goldenJSON(t *testing.T, name string, value any) {
	t.Helper()
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, name, append(text, '\n'))
}

func TestParseLimit(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"nofile", "5:6", "RLIMIT_NOFILE 5 6"},
		{"RLIMIT_CORE", "-1", "RLIMIT_CORE 18446744073709551615 18446744073709551615"},
		{"Stack", "0:unlimited", "RLIMIT_STACK 0 18446744073709551615"}, {"nproc", "7", "RLIMIT_NPROC 7 7"},
		{"", "1", ""}, {"nofile", "", ""}, {"nofile", "1:2:3", ""}, {"nofile", "1k", ""}, {"core", "unlimited:5", ""},
		{"core", "-2", ""},
		{"nofile", "1:infinity", ""}, {"core", "9223372036854775808", ""},
	} {
		l, err := ParseLimit(c.name, c.value)
		if got := fmt.Sprint(l.Type, " ", l.Soft, " ", l.Hard); err == nil && got != c.want ||
			(err != nil) != (c.want == "") {
			t.Errorf("%s=%s: %s, %v; want %q", c.name, c.value, got, err, c.want)
		}
	}
}

func TestParseTmpfs(t *testing.T) {
	for text, want := range map[string]string{
		"/a":                           "nosuid nodev noexec mode=1777",
		"/a:size=1m,ro,exec,mode=0755": "size=1m mode=0755 ro nosuid nodev",
		"/a:rw,noexec,nosuid,uid=5":    "uid=5 nosuid nodev noexec mode=1777",
		"a":                            "", "/": "", "/a/": "", "/a:size=": "", "/a:mode=9": "", "/a:dev": "",
		"/a:,": "", "/a:size=1m:ro": "", "/a:lazytime": "",
	} {
		m, err := ParseTmpfs(text)
		if got := strings.Join(m.Options, " "); err == nil && got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %s, %v; want %q", text, got, err, want)
		}
	}
}

// A directory in memory covers no volume and no secret, and comes before what is in it.
func TestTmpfs(t *testing.T) {
	app := plain("a")
	var err error
	if app.Tmpfs, err = ParseTmpfsList(`["/run/x","/run"]`); err != nil {
		t.Fatal(err)
	}
	app.Volumes, app.Secrets = []string{"/run/x/v", "/w"}, `[{"name":"s","source":"/s","target":"/run/t"}]`
	config, err := app.Config()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range Finish(config, Final{Secrets: true}).Mounts {
		if m.Type == "tmpfs" || strings.HasPrefix(m.Source, AppRoot("a")) {
			got = append(got, m.Destination)
		}
	}
	if want := "/run /run/x /run/x/v /run/t /run/secrets"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %s", got, want)
	}
}
