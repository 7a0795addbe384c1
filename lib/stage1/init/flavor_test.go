package initflavor

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rkt-toolkit/rkt/lib/stage1"
	"github.com/rkt-toolkit/rkt/lib/stage1/init/plan"
	"golang.org/x/sys/unix"
)

// What PID 1 is to know of an app follows from the app alone, the same each time.
func TestPrepare(t *testing.T) {
	spec := stage1.Spec{UUID: "11111111-2222-3333-4444-555555555555", Stage2: "/usr/bin/rkt-stage2",
		Attacher: "/usr/bin/rkt-attach", Apps: []stage1.App{
			{Name: "one", Exec: []string{"/one"}, PostStop: []string{"/x"},
				StopSignal: "SIGINT", StopTimeout: time.Second,
				Stdin: stage1.Attached, Stderr: stage1.TTY, Health: &stage1.Health{Interval: time.Second, Retries: 3},
				Capabilities: []string{"CAP_NET_ADMIN"}},
			{Name: "two", Exec: []string{"/two"}, Stdout: stage1.Null, Volumes: []string{"/dev/log"}},
		}}
	tree, err := Flavor{}.Prepare(spec)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := (Flavor{}).Prepare(spec); err != nil || !reflect.DeepEqual(tree, again) {
		t.Errorf("differs the second time: %v", err)
	}
	var p *plan.Plan
	names := ""
	for _, f := range tree.Files {
		names += f.Name + " "
		if strings.HasSuffix(f.Name, plan.File) {
			if p, err = plan.Parse(f.Text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if p == nil || len(p.Apps) != 2 || !strings.Contains(names, "/rkt/attach ") || len(tree.Binds) != 2 {
		t.Fatalf("%+v, files %s, %d mounts", p, names, len(tree.Binds))
	}
	one, two := p.Apps[0], p.Apps[1]
	if one.StopSignal != int(unix.SIGINT) || one.StopTimeout != time.Second || !one.PostStop || one.PreStart ||
		one.Health == nil || one.Health.Retries != 3 ||
		one.Stream("stdin") != "stream" || one.Stream("stderr") != "tty" || one.Stream("stdout") != "" ||
		!one.Output || !one.NoStderr {
		t.Errorf("%+v", one)
	}
	if two.StopSignal != int(unix.SIGTERM) || two.Health != nil || !two.NoStdout || two.NoStderr || two.Syslog ||
		!two.Journal {
		t.Errorf("%+v", two)
	}
	if p.Capabilities&(1<<unix.CAP_NET_ADMIN) == 0 || p.Capabilities&(1<<unix.CAP_SYS_MODULE) != 0 {
		t.Errorf("capabilities %x", p.Capabilities)
	}
	spec.Attacher = ""
	if _, err := (Flavor{}).Prepare(spec); err == nil || !strings.Contains(err.Error(), "rkt-attach") {
		t.Errorf("without rkt-attach: %v", err)
	}
}

// The pod's group is that of PID 1, or the one that this is in.
func TestPodGroup(t *testing.T) {
	for group, want := range map[string]string{"/m/a.service/payload": "/m/a.service/payload",
		"/m/a.service/payload/init.scope": "/m/a.service/payload", "/": ""} {
		if got := podGroup(group); got != want {
			t.Errorf("%s: %q", group, got)
		}
	}
}
