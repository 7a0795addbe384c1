package stage1

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const uuid = "01234567-89ab-cdef-0123-456789abcdef"

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

func TestService(t *testing.T) {
	text, err := hostile.service()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`ExecStart=:"/bin/a b" "%%n $HOME ${X} \"q\" 'r' \\ ; \x0a[Service]\x0aExecStartPre=/bin/evil" ""`,
		"WorkingDirectory=/a %%n b", "User=1000", "Group=1000", "SupplementaryGroups=4 5",
		`Environment="A=x\x0aExecStart=/bin/evil\x0a"`, "KillSignal=SIGQUIT", "MountAPIVFS=no", "Type=exec",
		"UnsetEnvironment=INVOCATION_ID JOURNAL_STREAM SYSTEMD_EXEC_PID LANG",
	} {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
	if n := strings.Count(string(text), "\nExec"); n != 1 {
		t.Errorf("%d lines that execute something:\n%s", n, text)
	}
	none, err := plain("a").service()
	if err != nil || !strings.Contains(string(none), "\nCapabilityBoundingSet=\n") {
		t.Errorf("an app without capabilities: %v\n%s", err, none)
	}
}

func TestFilesRefuse(t *testing.T) {
	bad := func(change func(*App)) []App {
		a := plain("a")
		change(&a)
		return []App{a}
	}
	for want, apps := range map[string][]App{
		"is that of a unit of the pod itself": {plain("systemd-journald")},
		"or of another app":                   {plain("a"), plain("a")},
		`environment variable "A B"`:          bad(func(a *App) { a.Environment = []Variable{{"A B", ""}} }),
		"has a NUL byte":                      bad(func(a *App) { a.Exec = append(a.Exec, "\x00") }),
		"not absolute":                        bad(func(a *App) { a.WorkingDir = "x" }),
		"no program with quotes":              bad(func(a *App) { a.Exec = []string{`/a"b`} }),
		"nothing to execute":                  bad(func(a *App) { a.Exec = nil }),
		"no control characters":               bad(func(a *App) { a.WorkingDir = "/a\nUser=0" }),
	} {
		if _, err := Files(uuid, apps); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// systemd itself reads every unit without a complaint.
func TestVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatal("systemd-analyze is missing: install Debian's package systemd")
	}
	app := hostile
	app.Exec = append([]string{"/bin/sh"}, app.Exec[1:]...) // verify wants the program to be there, and a root folder hides it
	files, err := Files(uuid, []App{app, plain("second")})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var units []string
	for path, text := range files {
		name, ok := strings.CutPrefix(path, UnitPath+"/")
		if !ok {
			continue
		}
		text = bytes.ReplaceAll(text, []byte("ExecStart=/rkt/notify"), []byte("ExecStart=/bin/sh")) // which is there only when it is wanted
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		units = append(units, filepath.Join(dir, name))
	}
	slices.Sort(units)
	cmd := exec.Command(analyze, append([]string{"verify", "--man=no"}, units...)...)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func TestStoppedKnowsEverySignal(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ code, status, result, want string }{
		{"exited", "0", "success", "0"},
		{"exited", "3", "exit-code", "3"},
		{"killed", "KILL", "signal", "137"},
		{"killed", "TERM", "success", "143"},
		{"dumped", "SEGV", "core-dump", "139"},
		{"killed", "RTMIN", "signal", "255"},
		{"", "", "resources", "255"},
	} {
		script := stopped()
		cut := strings.Index(script, "echo \"$status\"")
		cmd := exec.Command(sh, "-c", script[:cut]+"echo $status", "app-stopped", "app")
		cmd.Env = []string{"MONITOR_EXIT_CODE=" + c.code, "MONITOR_EXIT_STATUS=" + c.status, "MONITOR_SERVICE_RESULT=" + c.result}
		out, err := cmd.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != c.want {
			t.Errorf("%+v: %q, %v", c, out, err)
		}
	}
}

func TestOptions(t *testing.T) {
	got := Options([]App{{Capabilities: DefaultCapabilities}})
	if len(got) != 1 || !strings.HasPrefix(got[0], "--drop-capability=") || strings.Contains(got[0], "CAP_SYS_ADMIN") ||
		!strings.Contains(got[0], "CAP_SYS_NICE") || strings.Contains(got[0], "CAP_NET_RAW") {
		t.Errorf("default: %q", got)
	}
	got = Options([]App{{Capabilities: []string{"CAP_SYS_NICE"}}, {Capabilities: []string{"CAP_NET_ADMIN", "CAP_SYS_TIME"}}})
	if len(got) != 2 || strings.Contains(got[0], "CAP_SYS_NICE") || got[1] != "--capability=CAP_NET_ADMIN,CAP_SYS_TIME" {
		t.Errorf("more than systemd-nspawn's: %q", got)
	}
}

func TestCommand(t *testing.T) {
	got := strings.Join(Command("/usr/bin/systemd-nspawn", Start{UUID: uuid, Register: true, KeepUnit: true, Netns: "/run/n", Options: []string{"--x"}}), " ")
	want := "/usr/bin/systemd-nspawn --boot --register=true --link-journal=try-guest --quiet --keep-unit --uuid=" + uuid +
		" --machine=rkt-" + uuid + " --directory=stage1/rootfs "
	if !strings.HasPrefix(got, want) { // the shape that rkt's had
		t.Errorf("%s\nwant it to begin with\n%s", got, want)
	}
	if !strings.HasSuffix(got, " -- --default-standard-output=tty --log-target=null --log-level=warning --show-status=0") ||
		!strings.Contains(got, " --network-namespace-path=/run/n ") || !strings.Contains(got, " --x ") {
		t.Error(got)
	}
	got = strings.Join(Command("n", Start{UUID: uuid}), " ")
	if strings.Contains(got, "--network-namespace-path") || strings.Contains(got, "--keep-unit") || !strings.Contains(got, "--register=false") {
		t.Error(got)
	}
}
