package podunit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestService(t *testing.T) {
	for _, c := range []struct {
		pod  Pod
		want []string
	}{
		{Pod{Name: "redis", Programs: "/usr/bin", Apps: []App{{Image: "docker://redis"}}}, []string{
			`Environment=IMAGE=docker://redis`, `ExecStartPre=/usr/bin/rkt-prepare ${IMAGE}`,
			`ExecStartPre=/usr/bin/rkt-net add self`,
			`ExecStart=/usr/bin/rkt-run-prepared self`, `ExecStopPost=/usr/bin/rkt-net del self`,
			`ExecStopPost=/usr/bin/rkt-gc self`, `Description=Pod redis`,
		}},
		{Pod{Name: "a.b", Programs: "/opt/50%/bin", Environment: [][2]string{{"RKT_DIR", `/a b"%n`}},
			Prepare: []string{"--port=x:1", "--port=x:2"}, Net: []string{"--net=host"},
			Run: []string{"--hostname=$HOME"},
			Apps: []App{
				{Image: "img", Flags: []string{"--memory=1Gi"}, Args: []string{
					"%n", "a\nExecStart=/bin/evil", `\`, "", ";"}},
				{Image: "b\xff"}, {Image: "c", Flags: []string{"--cpu=2"}},
			},
		}, []string{
			`Environment="RKT_DIR=/a b\"%%n"`, `ExecStartPre=/opt/50%%/bin/rkt-net add --net=host self`,
			`ExecStart=/opt/50%%/bin/rkt-run-prepared --hostname=$$HOME self`,
			`Environment=IMAGE=img`, `Environment=PORT_X=1`, `Environment=MEMORY=1Gi`,
			`Environment=IMAGE_3=c`, `Environment=CPU_3=2`,
			strings.Join([]string{"ExecStartPre=/opt/50%%/bin/rkt-prepare", "--port=x:${PORT_X}", "--port=x:2",
				"${IMAGE}", "--memory=${MEMORY}", `-- %%n "a\x0aExecStart=/bin/evil" "\\" "" ";"`, "---", `"b\xff"`,
				"---", "${IMAGE_3}", "--cpu=${CPU_3}"}, " \\\n    "),
		}},
		{Pod{Name: "web@", Programs: "/usr/bin", Prepare: []string{"--volume=d-%i:/d", "--set-env=A=%%i 5%"},
			Apps: []App{{Image: "img:%i"}}}, []string{
			`Description=Pod web@%i`, `Environment=IMAGE=img:%i`,
			`ExecStartPre=/usr/bin/rkt-prepare --volume=d-%i:/d "--set-env=A=%%i 5%%" ${IMAGE}`,
		}},
		{ // the apps would have IMAGE
			Pod{Name: "env", Programs: "/usr/bin", Prepare: []string{"--inherit-env=true"},
				Apps: []App{{Image: "img"}}},
			[]string{`ExecStartPre=/usr/bin/rkt-prepare --inherit-env=true img`},
		},
		{Pod{Name: "q", Programs: "/usr/bin", Imported: true,
			Apps:   []App{{Image: "x:${TAG}", Args: []string{"%n", "$A"}}},
			Reload: []string{"rkt-kill", "--signal=HUP", "self"},
			Settings: []Setting{{"Service", "ExecStopPost", "/after"}, {"Service", "Type", "oneshot"},
				{"Service", "ExecStartPre", "/before"}, {"Unit", "Description", "D"}}}, []string{
			`ExecStartPre=/usr/bin/rkt-prepare x:${TAG} -- %n $A`, `ExecReload=/usr/bin/rkt-kill --signal=HUP self`,
			`Type=oneshot`, `Description=D`, "ExecStopPost=/usr/bin/rkt-gc self\nExecStopPost=/after",
			"ExecStartPre=/before\nExecStartPre=/usr/bin/rkt-prepare x:${TAG} -- %n $A",
		}},
	} {
		text, err := c.pod.Service()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			if !strings.Contains("\n"+string(text), "\n"+want+"\n") {
				t.Errorf("no line %s in\n%s", want, text)
			}
		}
		if n := strings.Count(string(text), "\nExec"); !c.pod.Imported && n != 5 {
			t.Errorf("%d Exec lines in\n%s", n, text)
		}
		for _, not := range []string{"Restart=", "WantedBy=", "Type=notify", "Description=Pod q"} {
			if c.pod.Imported && strings.Contains(string(text), not) {
				t.Errorf("a line of ours, %s, in\n%s", not, text)
			}
		}
	}
	devices := Pod{Name: "a", Programs: "/usr/bin",
		Prepare: []string{"--volume=null,kind=host,source=/dev/null", "--volume=/etc:/etc"},
		Apps: []App{{Image: "img", Flags: []string{"--device=/dev/absent:/dev/x:r", "--device=/dev/zero:rw"},
			Args: []string{"--device=/dev/full"}}}}
	text, err := devices.Service()
	if err != nil {
		t.Fatal(err)
	}
	const want = "DevicePolicy=closed\nDeviceAllow=char-pts rw\nDeviceAllow=/dev/net/tun rwm\nDeviceAllow=/dev/null " +
		"rwm\nDeviceAllow=/dev/absent r\nDeviceAllow=/dev/zero rw\n"
	if !strings.Contains(string(text), want) || strings.Contains(string(text), "/dev/full ") {
		t.Errorf("no lines %s in\n%s", want, text)
	}
	for _, name := range []string{"", "a b", "../x", ".x", "a\n", "%n", "@", "@x", "a@b@c"} {
		if _, err := (&Pod{Name: name, Programs: "/usr/bin"}).Service(); err == nil {
			t.Errorf("name %q: want an error", name)
		}
	}
}

func TestSocket(t *testing.T) {
	p := &Pod{Name: "web", Prepare: []string{
		"--port=80-tcp:8080", "--port=81-tcp:[::1]:8081", "--port=53-udp:127.0.0.1:5353"}}
	text, err := p.Socket([]Port{{"80-tcp", "tcp", 80, 1}, {"81-tcp", "tcp", 81, 1}, {"53-udp", "udp", 53, 1},
		{"r", "tcp", 90, 2}, {"control", "unix", 1, 1}})
	want := "[Socket]\nListenStream=8080\nListenStream=[::1]:8081\nListenDatagram=127.0.0.1:5353\nListenStream=90\n" +
		"ListenStream=91\nListenStream=/run/web/control\n"
	if err != nil || !strings.Contains(string(text), want) {
		t.Errorf("%v\n%s", err, text)
	}
	for _, flag := range []string{"--port=a:x", "--port=a:0", "--port=a:1.2.3:4", "--port=a:99999"} {
		if _, err := (&Pod{Name: "w", Prepare: []string{flag}}).Socket([]Port{{"a", "tcp", 1, 1}}); err == nil {
			t.Errorf("%s: want an error", flag)
		}
	}
	if _, err := p.Socket([]Port{{"a", "sctp", 1, 1}}); err == nil {
		t.Error("sctp: want an error")
	}
}

// systemd has nothing to complain of, whatever the values are.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	for _, program := range []string{"rkt-prepare", "rkt-net", "rkt-run-prepared", "rkt-gc"} {
		if err := os.Symlink("/bin/true", filepath.Join(dir, program)); err != nil {
			t.Fatal(err)
		}
	}
	p := &Pod{Name: "hostile", Programs: dir, Environment: [][2]string{{"RKT_INSECURE_OPTIONS", "image"}},
		Apps: []App{{Image: "img", Args: []string{"%n", "$HOME", `"`, `'`, `\`, "a\nb", "", ";", "ü", "\xff"}}}}
	service, err := p.Service()
	if err != nil {
		t.Fatal(err)
	}
	socket, err := p.Socket([]Port{{"a", "tcp", 80, 1}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"hostile.service": service, "hostile.socket": socket} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("systemd-analyze", "verify", filepath.Join(dir, "hostile.service"),
		filepath.Join(dir, "hostile.socket")).CombinedOutput()
	if err != nil || strings.Contains(string(out), "hostile") {
		t.Errorf("%v\n%s\n%s", err, out, service)
	}
}
