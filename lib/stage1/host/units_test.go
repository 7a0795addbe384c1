package host

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/host/inside"
	"github.com/rkt-toolkit/rkt/lib/testkit"
)

const uuid = "01234567-89ab-cdef-0123-456789abcdef"

// hostile is an app with everything in its values that means something in a unit file.
var hostile = stage1.App{
	Name: "hostile", Exec: []string{"/bin/a b", "%n $HOME ${X} \"q\" 'r' \\ ; \n[Service]\nExecStartPre=/bin/evil", ""},
	UID: 1000, GID: 1000, SupplementaryGIDs: []uint32{4, 5}, WorkingDir: "/a %n b",
	Environment: []stage1.Variable{{Name: "A", Value: "x\nExecStart=/bin/evil\n"}, {Name: "B", Value: "%H \"' \\"},
		{Name: "TERM", Value: "dumb"}},
	Capabilities: stage1.DefaultCapabilities, StopSignal: "SIGQUIT",
}

func plain(name string) stage1.App {
	return stage1.App{Name: name, Exec: []string{"/bin/true"}, WorkingDir: "/", Capabilities: []string{}}
}

// No string of an image is in a unit; what is there is in golden files.
func TestUnits(t *testing.T) {
	quiet := plain("quiet")
	quiet.StopSignal, quiet.Stdin, quiet.Stdout, quiet.Stderr = "SIGRTMIN+3", stage1.Null, stage1.Null, stage1.Attached
	quiet.Resources = stage1.Resources{MemoryMax: 1 << 20, CPUMilli: 250, CPUWeight: 10, BlockIOPS: 5,
		BlockBandwidth: 6}
	handlers := hostile
	handlers.Name, handlers.Notify = "handlers", true
	handlers.PreStart, handlers.PostStop = []string{"/pre\nUser=0"}, []string{"/post"}
	handlers.Health = &stage1.Health{Exec: []string{"/check\nUser=0"}, Interval: 30e9, Timeout: 5e9, StartPeriod: 1e9,
		Retries: 3}
	for _, app := range []stage1.App{hostile, quiet, handlers} {
		files, err := Files(uuid, stage1.Resources{}, []stage1.App{app})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, path := range slices.Sorted(maps.Keys(files)) {
			if strings.HasPrefix(path, UnitPath) && strings.Contains(path, app.Name) {
				got += "# " + path + "\n" + string(files[path])
			}
		}
		testkit.Golden(t, app.Name+".units", []byte(got))
	}
}

func TestFilesRefuse(t *testing.T) {
	for want, apps := range map[string][]stage1.App{
		"of the pod itself": {plain("systemd-journald")},
		"or of another app": {plain("a"), plain("a")},
	} {
		if _, err := Files(uuid, stage1.Resources{}, apps); !testkit.Says(err, want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// Which lines an app's streams become, and who serves them.
func TestStreams(t *testing.T) {
	for _, c := range []struct {
		in, out, err stage1.Stream
		want         string
		serve        string
	}{
		{"", "", "", "StandardOutput=file:/run/rkt/streams/a/output StandardError=file:/run/rkt/streams/a/output", ""},
		{stage1.Null, stage1.Null, stage1.Log, "StandardOutput=null StandardError=file:/run/rkt/streams/a/output", ""},
		{stage1.Attached, "", "",
			"StandardInput=file:/run/rkt/attach/a/stdin StandardOutput=file:/run/rkt/streams/a/output " +
				"StandardError=file:/run/rkt/streams/a/output", "stdin=stream"},
		{stage1.TTY, stage1.TTY, stage1.TTY, "StandardInput=tty SendSIGHUP=yes TTYPath=/run/rkt/attach/a/tty " +
			"StandardOutput=tty StandardError=tty",
			"stdin=tty stdout=tty stderr=tty"},
		{stage1.Null, stage1.Attached, stage1.TTY,
			"TTYPath=/run/rkt/attach/a/tty StandardOutput=file:/run/rkt/attach/a/stdout StandardError=tty",
			"stdout=stream stderr=tty"},
	} {
		a := plain("a")
		a.Stdin, a.Stdout, a.Stderr = c.in, c.out, c.err
		if got := strings.Join((app{a}).standard(), " "); got != c.want {
			t.Errorf("%q: %s\nwant %s", []stage1.Stream{c.in, c.out, c.err}, got, c.want)
		}
		files, err := Files(uuid, stage1.Resources{}, []stage1.App{a})
		if err != nil {
			t.Fatal(err)
		}
		unit, served := files[UnitPath+"/attach@a.service"]
		wanted := strings.Contains(string(files[UnitPath+"/a.service"]),
			"\nWants=attach@a.service\nAfter=attach@a.service\n")
		if served != (c.serve != "") || wanted != served || served && !strings.Contains(string(unit),
			"\nExecStart=/rkt/attach --serve a "+c.serve+"\n") {
			t.Errorf("%q: wanted %v, served by %s", []stage1.Stream{c.in, c.out, c.err}, wanted, unit)
		}
	}
}

func written(t *testing.T, u *unit) []byte {
	t.Helper()
	text, err := u.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Which pipes and sockets an app has, and who reads them. One with a volume at /dev/log has none
// there.
func TestStreamUnits(t *testing.T) {
	root, user, silent, checked := plain("root"), plain("user"), plain("silent"), plain("checked")
	user.UID, user.GID, user.Stderr = 1000, 1001, stage1.Null
	silent.Stdout, silent.Stderr = stage1.Attached, stage1.TTY
	silent.Volumes = []string{"/dev/log"}
	checked.Stdout, checked.Stderr, checked.Health = stage1.Null, stage1.Null, &stage1.Health{Exec: []string{"/check"}}
	units := map[string]string{}
	for name, u := range streamUnits(uuid, wrap([]stage1.App{root, user, silent, checked})) {
		units[name] = string(written(t, u))
	}
	for unit, lines := range map[string]string{
		"streams@root.socket": "ListenFIFO=/run/rkt/streams/root/output\nListenDatagram=/rkt/dev/root/log\n" +
			"PassCredentials=yes\nListenDatagram=/run/rkt/streams/root/journal\n" +
			"ListenDatagram=/run/rkt/streams/root/ended\n",
		"streams@silent.socket": "Service=streams@pod.service\nPassCredentials=yes\n" +
			"ListenDatagram=/run/rkt/streams/silent/journal\n",
		"streams@user.socket":    "ListenFIFO=/run/rkt/streams/user/output\n",
		"streams@checked.socket": "Service=streams@pod.service\nListenFIFO=/run/rkt/streams/checked/health\n",
		"streams@pod.service": "Sockets=streams@root.socket streams@user.socket streams@silent.socket " +
			"streams@checked.socket\nExecStart=/rkt/stage2 streams " + uuid + "\n",
	} {
		if !strings.Contains(units[unit], lines) {
			t.Errorf("%s: %s", unit, units[unit])
		}
	}
	if len(units) != 5 || strings.Contains(units["streams@silent.socket"], "log") {
		t.Errorf("%q", units)
	}
	long := plain(strings.Repeat("a", 200)) // than a socket's path may be
	for name, u := range streamUnits(uuid, wrap([]stage1.App{long})) {
		if text := string(written(t, u)); strings.Contains(text, "ListenDatagram=") {
			t.Errorf("%s: %s", name, text)
		}
	}
	if text, err := (app{long}).service(); err != nil || !strings.Contains(string(text), "streams@") {
		t.Errorf("%s, %v", text, err)
	}
	long.Stdout, long.Stderr = stage1.Null, stage1.Null
	if text, err := (app{long}).service(); err != nil || strings.Contains(string(text), "streams@") {
		t.Errorf("%s, %v", text, err)
	}
}

// systemd itself reads every unit without a complaint.
func TestVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatal("systemd-analyze is missing: install Debian's package systemd")
	}
	app := hostile
	attachable := plain("attachable")
	attachable.Health = &stage1.Health{Exec: []string{"/bin/true"}, Interval: time.Second, Timeout: time.Second,
		StartPeriod: time.Second, Retries: 3}
	attachable.Stdin, attachable.Stdout, attachable.Stderr = stage1.TTY, stage1.Attached, stage1.TTY
	files, err := Files(uuid, stage1.Resources{MemoryMax: 1 << 20, CPUMilli: 250, BlockIOPS: 5},
		[]stage1.App{app, plain("second"), attachable})
	if err != nil {
		t.Fatal(err)
	}
	ready, _ := Ready([]string{app.Name, "second", "attachable"}, nil)
	files[UnitPath+"/"+ReadyUnit] = written(t, ready)
	dir := t.TempDir()
	var units []string
	for path, text := range files {
		name, ok := strings.CutPrefix(path, UnitPath+"/")
		if !ok {
			continue
		}
		for _, program := range []string{"/rkt/notify", stage1.AttachFile, stage1.Stage2} {
			// which are there only when they are wanted
			text = bytes.ReplaceAll(text, []byte("="+program+" "), []byte("=/bin/sh "))
			text = bytes.ReplaceAll(text, []byte("="+program+"\n"), []byte("=/bin/sh\n"))
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

// Nothing that runs in a pod beside the apps is a program of the host's, except for journald.
func TestPrograms(t *testing.T) {
	app := plain("a")
	app.Stdout, app.Health = stage1.Attached, &stage1.Health{Exec: []string{"/check"}, StartPeriod: 1}
	files, err := Files(uuid, stage1.Resources{}, []stage1.App{app})
	if err != nil {
		t.Fatal(err)
	}
	ready, _ := Ready([]string{"a"}, nil)
	files[UnitPath+"/"+ReadyUnit] = written(t, ready)
	n := 0
	for path, text := range files {
		if strings.HasPrefix(string(text), "#!") {
			t.Errorf("%s is a script", path)
		}
		for line := range strings.Lines(string(text)) {
			command, ok := strings.CutPrefix(line, "Exec")
			if !ok {
				continue
			}
			n++
			_, command, _ = strings.Cut(command, "=")
			switch program := strings.Fields(strings.TrimLeft(command, "-+!:"))[0]; program {
			case stage1.Stage2, stage1.AttachFile, "/rkt/notify", "/usr/lib/systemd/systemd-journald":
			default:
				t.Errorf("%s runs %s", path, program)
			}
		}
	}
	if n < 12 {
		t.Errorf("only %d lines run something", n)
	}
}

// A failed check counts only after the start period, if there is one.
func TestStartPeriod(t *testing.T) {
	for _, period := range []time.Duration{0, 8 * time.Second} {
		app := plain("a")
		app.Health = &stage1.Health{Exec: []string{"/check"}, Interval: time.Second, Retries: 3, StartPeriod: period}
		files, err := Files(uuid, stage1.Resources{}, []stage1.App{app})
		if err != nil {
			t.Fatal(err)
		}
		counts, timer := string(files[UnitPath+"/unhealthy@a.service"]), string(files[UnitPath+"/watched@a.timer"])
		if waits := strings.Contains(counts, "\nRequisite=watched@a.target\n"); waits != (period > 0) ||
			!strings.Contains(counts, "=/rkt/stage2 unhealthy a 3 kill\n") {
			t.Errorf("%s: %s", period, counts)
		}
		if waits := strings.Contains(timer, "\nOnActiveSec=8000000us\n"); waits != (period > 0) {
			t.Errorf("%s: %s", period, timer)
		}
	}
}

// The readiness unit is one that systemd takes.
func TestReady(t *testing.T) {
	service, wants := Ready([]string{"one", "two"}, nil)
	unit, dropIn := string(written(t, service)), string(written(t, wants))
	for _, want := range []string{"\nRequires=pod.target one.service two.service\n", " app-failed@one.service ",
		" app-succeeded@two.service "} {
		if !strings.Contains(unit, want) {
			t.Errorf("no %q in\n%s", want, unit)
		}
	}
	if dropIn != "[Unit]\nWants=ready@pod.service\n" {
		t.Errorf("%q", dropIn)
	}
	argv := arguments(machine{UUID: uuid})
	if !slices.Contains(argv, "--notify-ready=yes") || !slices.Contains(argv, "--setenv=NOTIFY_SOCKET=") {
		t.Errorf("%q", argv)
	}
}

func TestOptions(t *testing.T) {
	got := capabilityOptions([]stage1.App{{Capabilities: stage1.DefaultCapabilities}})
	if len(got) != 1 || !strings.HasPrefix(got[0], "--drop-capability=") || strings.Contains(got[0], "CAP_SYS_ADMIN") ||
		!strings.Contains(got[0], "CAP_SYS_NICE") || strings.Contains(got[0], "CAP_NET_RAW") {
		t.Errorf("default: %q", got)
	}
	got = capabilityOptions([]stage1.App{{Capabilities: []string{"CAP_SYS_NICE"}},
		{Capabilities: []string{"CAP_NET_ADMIN", "CAP_SYS_TIME"}}})
	if len(got) != 2 || strings.Contains(got[0], "CAP_SYS_NICE") ||
		got[1] != "--capability=CAP_NET_ADMIN,CAP_SYS_TIME" {
		t.Errorf("more than systemd-nspawn's: %q", got)
	}
}

// What limits the apps does not limit what the pod itself needs to note how they end.
func TestTasks(t *testing.T) {
	app := plain("a")
	app.Stdout, app.Health = stage1.Attached, &stage1.Health{Exec: []string{"/check"}}
	files, err := Files(uuid, stage1.Resources{TasksMax: 20}, []stage1.App{app})
	if err != nil {
		t.Fatal(err)
	}
	if slice := string(files[UnitPath+"/system.slice"]); !strings.Contains(slice, "\n[Slice]\nTasksMax=20\n") {
		t.Error(slice)
	}
	for unit, want := range map[string]string{
		"a.service": "", "health@a.service": "", // systemd's own choice, system.slice
		"app-failed@.service": "-.slice", "app-succeeded@.service": "-.slice", "streams@pod.service": "-.slice",
		"rkt-notify.service": "-.slice", "healthy@a.service": "-.slice", "unhealthy@a.service": "-.slice",
		"attach@a.service": "-.slice",
	} {
		text := string(files[UnitPath+"/"+unit])
		if _, got, _ := strings.Cut(text, "\nSlice="); text == "" || strings.SplitN(got, "\n", 2)[0] != want {
			t.Errorf("%s is in %q, want %q", unit, got, want)
		}
		if limited := strings.Contains(text, "\nTasksMax=infinity\n"); limited != (want == "") {
			t.Errorf("%s: the limit of systemd's own: %v", unit, !limited)
		}
	}
	if files, err = Files(uuid, stage1.Resources{}, []stage1.App{app}); err != nil ||
		files[UnitPath+"/system.slice"] != nil {
		t.Errorf("without a limit: %s, %v", files[UnitPath+"/system.slice"], err)
	}
}

func TestArguments(t *testing.T) {
	got := strings.Join(arguments(machine{UUID: uuid, Register: true, KeepUnit: true, Options: []string{"--x"}}), " ")
	want := "--boot --register=true --link-journal=no --quiet --keep-unit --uuid=" + uuid +
		" --machine=rkt-" + uuid + " --directory=stage1/rootfs "
	if !strings.HasPrefix(got, want) { // the shape that rkt's had
		t.Errorf("%s\nwant it to begin with\n%s", got, want)
	}
	if !strings.HasSuffix(got, " -- --default-standard-output=tty --log-target=null --log-level=warning "+
		"--show-status=0") ||
		!strings.Contains(got, " --x ") {
		t.Error(got)
	}
	got = strings.Join(arguments(machine{UUID: uuid}), " ")
	if strings.Contains(got, "--keep-unit") || !strings.Contains(got, "--register=false") {
		t.Error(got)
	}
}

// From 262 on systemd-nspawn takes --NAME=VALUE after the -- for environment variables, and 261
// asks about address families.
func TestArgumentsOfNewer(t *testing.T) {
	got := strings.Join(arguments(machine{UUID: uuid, Version: 262}), " ")
	if _, after, _ := strings.Cut(got, " -- "); after != "systemd.default_standard_output=tty "+
		"systemd.log_target=null systemd.log_level=warning systemd.show_status=0" {
		t.Error(got)
	}
	if !strings.Contains(got, " --restrict-address-families= ") || !strings.Contains(got, " --link-journal=no ") {
		t.Error(got)
	}
}

// What an app has of the pod's systemd: the sockets of the journal, and the one for notifications.
func TestOwnMounts(t *testing.T) {
	a := plain("a")
	var got []string
	for _, m := range (app{a}).mounts() {
		got = append(got, m.Source+" "+m.Destination)
	}
	want := "/run/rkt/streams/a/journal /run/systemd/journal/socket, /run/systemd/journal/stdout " +
		"/run/systemd/journal/stdout"
	if strings.Join(got, ", ") != want {
		t.Errorf("%q", got)
	}
	a.Notify = true
	if all := (app{a}).mounts(); len(all) != 3 || all[0].Destination != inside.PodNotify {
		t.Errorf("%v", all)
	}
}
