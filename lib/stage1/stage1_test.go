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
		"environment variable A: its value":   bad(func(a *App) { a.Environment = []Variable{{"A", "\xff"}} }),
		"has a NUL byte":                      bad(func(a *App) { a.Exec = append(a.Exec, "\x00") }),
		"not absolute":                        bad(func(a *App) { a.WorkingDir = "x" }),
		"no program with quotes":              bad(func(a *App) { a.Exec = []string{`/a"b`} }),
		"nothing to execute":                  bad(func(a *App) { a.Exec = nil }),
		"no control characters":               bad(func(a *App) { a.WorkingDir = "/a\nUser=0" }),
	} {
		if _, err := Files(uuid, Isolation{}, apps); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// What systemd does not pass on is rkt-exec's, for the app, what runs before and after it, and its health check.
func TestLaunched(t *testing.T) {
	app := plain("app")
	app.Environment = []Variable{{"A", "plain"}, {"FOO.BAR", "%n"}}
	app.PreStart, app.PostStop, app.Health = []string{"/pre"}, []string{"/post"}, &Health{Exec: []string{"/check"}}
	files, err := Files(uuid, Isolation{}, []App{app})
	if err != nil {
		t.Fatal(err)
	}
	text := string(files[UnitPath+"/app.service"]) + string(files[UnitPath+"/health@app.service"])
	if n := strings.Count(text, `=:"/dev/rkt-exec" "FOO.BAR=%%n" "--" "/`); n != 4 || strings.Count(text, "Environment=\"A=plain\"") != 2 {
		t.Errorf("%d of 4 commands:\n%s", n, text)
	}
	if strings.Contains(text, "Environment=\"FOO") || plain("x").Launched() {
		t.Error(text)
	}
}

// Which lines an app's streams become, and who serves them.
func TestStreams(t *testing.T) {
	for _, c := range []struct {
		in, out, err Stream
		want         string
		serve        string
	}{
		{"", "", "", "StandardOutput=journal+console StandardError=journal+console", ""},
		{Null, Null, Log, "StandardOutput=null StandardError=journal+console", ""},
		{Attached, "", "", "StandardInput=file:/run/rkt/attach/a/stdin StandardOutput=journal+console StandardError=journal+console", "stdin=stream"},
		{TTY, TTY, TTY, "StandardInput=tty SendSIGHUP=yes TTYPath=/run/rkt/attach/a/tty Environment=TERM=xterm StandardOutput=tty StandardError=tty",
			"stdin=tty stdout=tty stderr=tty"},
		{Null, Attached, TTY, "TTYPath=/run/rkt/attach/a/tty Environment=TERM=xterm StandardOutput=file:/run/rkt/attach/a/stdout StandardError=tty",
			"stdout=stream stderr=tty"},
	} {
		app := plain("a")
		app.Stdin, app.Stdout, app.Stderr = c.in, c.out, c.err
		if got := strings.Join(app.standard(), " "); got != c.want {
			t.Errorf("%q: %s\nwant %s", []Stream{c.in, c.out, c.err}, got, c.want)
		}
		files, err := Files(uuid, Isolation{}, []App{app})
		if err != nil {
			t.Fatal(err)
		}
		unit, served := files[UnitPath+"/attach@a.service"]
		wanted := strings.Contains(string(files[UnitPath+"/a.service"]), "\nWants=attach@a.service\nAfter=attach@a.service\n")
		if served != (c.serve != "") || wanted != served || served && !strings.Contains(string(unit), "\nExecStart=/rkt/attach --serve a "+c.serve+"\n") {
			t.Errorf("%q: wanted %v, served by %s", []Stream{c.in, c.out, c.err}, wanted, unit)
		}
	}
	// An image's own TERM counts.
	app := plain("a")
	app.Stdout, app.Environment = TTY, []Variable{{"TERM", "vt52"}}
	if text, err := app.service(); err != nil || strings.Contains(string(text), "xterm") || !strings.Contains(string(text), "\nTTYPath=") {
		t.Errorf("%v\n%s", err, text)
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
	attachable := plain("attachable")
	attachable.Stdin, attachable.Stdout, attachable.Stderr = TTY, Attached, TTY
	files, err := Files(uuid, Isolation{MemoryMax: 1 << 20, CPUMilli: 250, BlockIOPS: 5}, []App{app, plain("second"), attachable})
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
		for _, program := range []string{"/rkt/notify", AttachFile} { // which are there only when they are wanted
			text = bytes.ReplaceAll(text, []byte("ExecStart="+program), []byte("ExecStart=/bin/sh"))
		}
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
